"""The results as figures; Matplotlib is imported when one is drawn."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from keras_srt.report import content
from keras_srt.report.content import Report, Row, shorten
from keras_srt.report.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, SKY, STYLE, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BAR_COLORS = {"clean": BLUE, "attack": SKY, "worst": VERMILION}
_LINES = (
    *((BLUE, "-"), (VERMILION, "--"), (GREEN, "-."), (PURPLE, ":")),
    *((ORANGE, (0, (5, 1, 1, 1, 1, 1))), (INK, (0, (1, 1)))),
)
_FIGURES = ("accuracy.png", "training.png", "masking.png", "examples.png")


class Examples(NamedTuple):
    """Images before and after an attack, for the figure of examples.

    Attributes:
        images: float32 [n, height, width, channels] in [0, 1].
        perturbed: the same images, tampered with.
        labels: int [n], true class ids.
        before: int [n], what the model says of `images`.
        after: int [n], what it says of `perturbed`.
        attack: name of the attack.
    """

    images: np.ndarray
    perturbed: np.ndarray
    labels: np.ndarray
    before: np.ndarray
    after: np.ndarray
    attack: str


def write_figures(
    report: Report, history_path: Path, examples: Examples, class_names: Sequence[str], folder: Path
) -> list[Path]:
    """Writes `accuracy.png`, `training.png`, `masking.png` and `examples.png`.

    Args:
        report: what `report.json` holds; without its part `masking`, no `masking.png`.
        history_path: `history.csv` of the training; without this file, no `training.png`.
        examples: images before and after an attack; without any, no `examples.png`.
        class_names: for class ids 0, 1, …; an id without a name is shown as a number.
        folder: where to write; has to exist.

    Returns:
        The files written, in the order of the page.

    Example:
        >>> write_figures(report, run / "history.csv", examples, names, run)  # doctest: +SKIP
    """
    import matplotlib

    written = []
    with matplotlib.rc_context(STYLE):
        drawn = {
            "accuracy.png": _accuracy_figure(report),
            "training.png": _training_figure(report, content.read_history(history_path)),
            "masking.png": _masking_figure(report),
            "examples.png": _examples_figure(report, examples, class_names),
        }
        for name, figure in drawn.items():
            if figure is not None:
                figure.savefig(folder / name, metadata={"Software": None})
                written.append(folder / name)
    return written


def written_figures(folder: Path) -> list[Path]:
    """The figures that `write_figures` left in a folder, in the order of the page."""
    paths = [folder / name for name in _FIGURES]
    return [path for path in paths if path.is_file()]


def _new_figure(report: Report, title: str, width: float, height: float) -> Figure:
    """An empty figure with its title and, for a reduced run, the note of that."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    texts = (f"{report['name']}: {title}", content.reduced_note(report))
    lines = [line for text in texts for line in _few_lines(text, int(width * 11))]
    figure = Figure(figsize=(width, height + 0.2 * len(lines)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(h_pad=0.07)
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=11)
    return figure


def _few_lines(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, max_lines=2, placeholder=" ...")


def _accuracy_figure(report: Report) -> Figure:
    """Horizontal bars with 95% intervals."""
    rows = content.rows_of(report)
    figure = _new_figure(report, "accuracy on test images", 8, 0.8 + 0.56 * len(rows))
    axes = figure.add_subplot()
    for height, row in enumerate(rows):
        _draw_bar(axes, height, row)
    axes.set_yticks([])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel("accuracy in % (lines: 95% interval)")
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    return figure


def _draw_bar(axes: Axes, height: int, row: Row) -> None:
    """A bar, its name and settings to the left, its numbers to the right."""
    value, (low, high) = 100 * row.accuracy, (100 * bound for bound in row.interval)
    axes.barh(height, value, height=0.5, color=_BAR_COLORS[row.kind])
    # Rounding may put an end on the wrong side of the value.
    reach = [[max(0.0, value - low)], [max(0.0, high - value)]]
    axes.errorbar(value, height, xerr=reach, color=INK, capsize=3.5, lw=1.3, clip_on=False)
    small = {"fontsize": 8, "color": GREY, "va": "top", "linespacing": 1.1}
    settings = _few_lines(row.settings, 42)
    # The name makes room for a second line below it.
    middle = height - (0.15 if len(settings) > 1 else 0.0)
    axes.text(-1.5, middle - 0.03, shorten(row.name, 34), ha="right", va="bottom")
    axes.text(-1.5, middle + 0.03, "\n".join(settings), ha="right", **small)
    axes.text(102.5, height, content.percent(row.accuracy), fontweight="bold", va="bottom")
    axes.text(102.5, height + 0.05, content.interval(row.interval), **small)


def _training_figure(report: Report, history: Mapping[str, np.ndarray]) -> Figure | None:
    """Losses and validation accuracies by step; None if there are none."""
    # The total comes first, whatever the order of the columns.
    names = sorted(history, key=lambda name: name != "loss")
    validated = [name for name in names if name.startswith("val_")]
    other = ["step", "epoch", "learning_rate", "seconds", *validated]
    panels = {
        "loss": {name: history[name] for name in names if name not in other},
        "validation accuracy in %": {name: 100 * history[name] for name in validated},
    }
    panels = {label: curves for label, curves in panels.items() if curves}
    if not panels:
        return None
    figure = _new_figure(report, "training", 8, 2.6 * len(panels))
    grid = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, (label, curves) in zip(grid, panels.items(), strict=True):
        _draw_curves(axes, history["step"], curves, label)
        _mark_learning_rates(axes, history["step"], history["learning_rate"])
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
    grid[-1].set_xlabel("step")
    return figure


def _draw_curves(
    axes: Axes, steps: np.ndarray, curves: Mapping[str, np.ndarray], label: str
) -> None:
    names = {"loss": "total", "val_accuracy": "clean", "val_robust_accuracy": "robust"}
    for (name, values), (color, dashes) in zip(curves.items(), cycle(_LINES), strict=False):
        known = np.isfinite(values)
        marker = "o" if known.sum() <= 20 else None
        look = {"color": color, "ls": dashes, "lw": 1.7, "marker": marker, "ms": 3.5}
        axes.plot(steps[known], values[known], label=names.get(name, name), **look)
    axes.grid(axis="y")
    axes.margins(x=0.02)
    shown = np.concatenate([values[np.isfinite(values)] for values in curves.values()])
    # A first loss far above the rest would flatten all that follows.
    if label == "loss" and shown.min() > 0 and shown.max() > 30 * shown.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
        label = "loss (log scale)"
    axes.set_ylabel(label)


def _mark_learning_rates(axes: Axes, steps: np.ndarray, rates: np.ndarray) -> None:
    """A line where the learning rate drops, unless it changes all the time."""
    changes = np.flatnonzero(np.abs(np.diff(rates)) > 1e-9) + 1
    for index in changes if len(changes) <= 4 else ():
        label = "learning rate\nchanges" if index == changes[0] else None
        axes.axvline(steps[index], color="#999999", ls=(0, (1, 2)), lw=1.2, zorder=0, label=label)


def _masking_figure(report: Report) -> Figure | None:
    """Accuracy under PGD against ε, and that of a guess; None where it wasn't looked for."""
    if "masking" not in report:
        return None
    threats, chance = report["masking"]["threats"], 100 * report["masking"]["chance"]
    figure = _new_figure(report, "accuracy as eps grows", 4.4 * len(threats) + 1.2, 2.8)
    for axes, threat in zip(
        figure.subplots(1, len(threats), squeeze=False)[0], threats, strict=True
    ):
        _draw_masking(axes, threat, chance)
    return figure


def _draw_masking(axes: Axes, threat: Mapping[str, Any], chance: float) -> None:
    # Each ε at the same distance from the next: they grow from small to all there is.
    places, points = range(len(threat["curve"])), threat["curve"]
    values = [100 * point["accuracy"] for point in points]
    reach = np.abs([[100 * b for b in point["ci95"]] for point in points] - np.c_[values]).T
    axes.errorbar(places, values, yerr=reach, color=BLUE, marker="o", ms=4, lw=1.7, capsize=3)
    axes.axhline(chance, color=VERMILION, ls="--", lw=1.2)
    axes.annotate(
        f"chance, {chance:.3g}%", (0, chance), (2, 3), textcoords="offset points",
        fontsize=8, color=VERMILION,
    )  # fmt: skip
    axes.set_xticks(places, [content.number(p["epsilon"]) for p in points])
    axes.set_xlim(-0.3, len(points) - 0.7)
    axes.set_ylim(-3, 103)
    axes.set_ylabel(f"accuracy in %, n = {points[0]['n']:,}")
    axes.set_xlabel(
        f"{threat['norm']} eps (the threat model's is {content.number(threat['epsilon'])})"
    )
    axes.grid(axis="y")


def _examples_figure(
    report: Report, examples: Examples, class_names: Sequence[str]
) -> Figure | None:
    """x, x' and their difference, a row or half a row for each image; None without images."""
    count = len(examples.images)
    if count == 0:
        return None
    blocks = 1 if count <= 4 else 2
    rows = math.ceil(count / blocks)
    # Letters need the same room, however many images are side by side.
    width, cell = (6.0, 1.65) if blocks == 1 else (9.6, 1.4)
    title = f"images before and after {examples.attack}"
    figure = _new_figure(report, title, width, 0.4 + rows * (cell + 0.3))
    # Two images in a row get an empty column between them.
    ratios = ([1, 1, 1, 0.12] * blocks)[:-1]
    grid = figure.subplots(rows, len(ratios), squeeze=False, gridspec_kw={"width_ratios": ratios})
    for axes in grid.flat:
        axes.set_axis_off()
    changes = examples.perturbed - examples.images
    largest = max(float(np.abs(changes).max()), 1e-6)
    for index in range(count):
        block, row = divmod(index, rows)
        _draw_example(grid[row, 4 * block : 4 * block + 3], examples, index, largest, class_names)
    figure.supxlabel(
        "left: image, middle: after the attack, each with the model's answer; right: difference,\n"
        f"grey = none, black and white = \N{PLUS-MINUS SIGN}{content.number(largest)}",
        fontsize=9,
        color=GREY,
    )
    return figure


def _draw_example(
    cells: Sequence[Axes], examples: Examples, index: int, largest: float, names: Sequence[str]
) -> None:
    before, after = examples.images[index], examples.perturbed[index]
    difference = 0.5 + (after - before) / (2 * largest)
    for axes, image in zip(cells, (before, after, difference), strict=True):
        # Three channels are colors; of any other number, the mean is shown.
        shown = image if image.shape[-1] == 3 else image.mean(axis=-1)
        shown = np.clip(shown, 0, 1)
        axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    label = int(examples.labels[index])
    answers = (int(examples.before[index]), int(examples.after[index]))
    for axes, answer, arrow in zip(cells, answers, ("", "\N{RIGHTWARDS ARROW} "), strict=False):
        right = answer == label
        # Signs besides colors: not everyone sees green and red.
        sign = "\N{CHECK MARK}" if right else "\N{BALLOT X}"
        text = f"{arrow}{_class_name(answer, names)} {sign}"
        axes.set_title(text, fontsize=9, color=GREEN if right else VERMILION)
    if answers[0] != label:
        cells[2].set_title(f"is {_class_name(label, names)}", fontsize=9, color=GREY)


def _class_name(number: int, names: Sequence[str]) -> str:
    # A model that answered NaN has class -1.
    return shorten(names[number], 14) if 0 <= number < len(names) else str(number)
