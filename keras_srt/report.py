"""Tables, figures and a web page of an evaluation; imports no TensorFlow."""

from __future__ import annotations

import base64
import csv
import json
import math
import textwrap
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Report = Mapping[str, Any]

TABLE_WIDTH = 100
MAX_EXAMPLES = 12

RISK_MEANINGS = {
    "standard": ("R_stand", "wrong without tampering"),
    "robust": ("R_rob", "the answer changes under attack, right or wrong"),
    "adversarial": ("R_adv", "wrong without tampering or under attack"),
}
BOUND_NOTE = "For each image, R_adv = R_stand + (1 - R_stand) * R_rob (eq. 6 of the paper)."
SEARCH_NOTE = (
    "Attacks search, they don't prove: stronger ones can only raise R_rob and R_adv and lower "
    "the accuracies."
)


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


class _Row(NamedTuple):
    """One line of results; `kind` is clean, attack or worst."""

    kind: str
    name: str
    settings: str
    accuracy: float | None
    interval: tuple[float, float] | None
    n: int | None
    seconds: float | None


def terminal_table(report: Report) -> str:
    """The results as text.

    Args:
        report: what `report.json` holds.

    Returns:
        Lines of plain ASCII, at most 100 columns wide, without a final line break.

    Example:
        >>> table = terminal_table({"name": "a", "clean": {"accuracy": 0.982, "n": 500}})
        >>> table.splitlines()[-1].split()
        ['clean', 'untampered', 'images', '98.20', '-', '500', '-']
    """
    heading = [_title(report)]
    if note := _reduced_note(report):
        heading.append(f"Reduced run: {note}")
    heading += _summary(report)
    lines = [line for text in heading for line in _wrap(text)]
    lines += ["", *_table_lines(_rows(report))]
    if risks := _risks(report):
        named = [(*RISK_MEANINGS[key], value) for key, value in risks]
        lines += ["", "Risks: " + ", ".join(f"{name} {value:.4f}" for name, _, value in named)]
        lines += [f"  {name}: {meaning}" for name, meaning, _ in named]
        lines += _wrap(BOUND_NOTE, "  ", "  ") if len(risks) == len(RISK_MEANINGS) else []
    return "\n".join(lines)


def write_figures(
    report: Report,
    history_path: Path | None,
    examples: Examples | None,
    class_names: Sequence[str] | None,
    folder: Path,
) -> list[Path]:
    """Writes `accuracy.png`, `training.png` and `examples.png`.

    A figure whose input is absent is left out.

    Args:
        report: what `report.json` holds.
        history_path: `history.csv` of the training, or None.
        examples: images before and after an attack, or None; the first 12 are shown.
        class_names: for class ids 0, 1, …; an id without a name is shown as a number.
        folder: where to write; made if need be.

    Returns:
        The files written, in the order of the page.

    Example:
        >>> import tempfile
        >>> report = {"name": "a", "clean": {"accuracy": 0.982, "n": 500}}
        >>> [p.name for p in write_figures(report, None, None, None, Path(tempfile.mkdtemp()))]
        ['accuracy.png']
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with _style():
        drawn = {
            "accuracy.png": _accuracy_figure(report),
            "training.png": _training_figure(report, _read_history(history_path)),
            "examples.png": _examples_figure(report, examples, class_names or ()),
        }
        for name, figure in drawn.items():
            if figure is not None:
                figure.savefig(folder / name, metadata={"Software": None})
                written.append(folder / name)
    return written


def write_html(report: Report, figures: Sequence[Path], path: Path) -> Path:
    """Writes one web page that needs nothing else: figures and style are inside.

    Args:
        report: what `report.json` holds.
        figures: PNG files, as `write_figures` returns them.
        path: the page, usually `report.html`; its folder has to exist.

    Returns:
        `path`.

    Example:
        >>> import tempfile
        >>> page = Path(tempfile.mkdtemp()) / "report.html"
        >>> "98.20" in write_html({"clean": {"accuracy": 0.982}}, [], page).read_text("utf-8")
        True
    """
    path = Path(path)
    title = escape(_title(report))
    note = _reduced_note(report)
    banner = f'<p class="reduced"><strong>Reduced run:</strong> {escape(note)}</p>' if note else ""
    summary = "".join(f"<p>{escape(line)}</p>" for line in _summary(report))
    everything = json.dumps(report, indent=2, ensure_ascii=False, default=str)
    body = [
        f"<header><h1>{title}</h1>{banner}</header>",
        f"<section><h2>What it was trained on</h2>{summary}</section>" if summary else "",
        _results_html(report),
        _risks_html(report),
        _figures_html(report, figures),
        "<section><h2>Settings</h2><details><summary>Everything in report.json</summary>"
        f"<pre>{escape(everything)}</pre></details></section>",
    ]
    text = _PAGE.substitute(title=title, style=_CSS, body="\n".join(filter(None, body)))
    # A file name may hold bytes that are no text: those become question marks.
    path.write_text(text, encoding="utf-8", errors="replace")
    return path


# What is shown, in words and rows ----------------------------------------------------------


def _title(report: Report) -> str:
    return str(report.get("name") or "unnamed run")


def _reduced_note(report: Report) -> str:
    """Why the numbers are no full reference run; empty if they are one."""
    reduced = report.get("reduced")
    if reduced is True:
        return "smaller than the reference settings; not comparable with published numbers"
    return str(reduced) if reduced else ""


def _summary(report: Report) -> list[str]:
    """What it was trained on, in one sentence a topic."""
    parts = (_dataset_text(report), _training_text(report), _neighborhood_text(report))
    return [part for part in parts if part]


def _dataset_text(report: Report) -> str:
    dataset = report.get("dataset") or {}
    labels = {
        "labeled": "labeled",
        "unlabeled": "unlabeled",
        "validation": "validation",
        "num_test": "test",
    }
    counts = [f"{dataset[k]:,} {text}" for k, text in labels.items() if dataset.get(k) is not None]
    if dataset.get("num_train") is not None:
        counts.append(f"from a training split of {dataset['num_train']:,}")
    title = str(dataset.get("title") or "")
    return ": ".join(part for part in (title, ", ".join(counts)) if part)


def _training_text(report: Report) -> str:
    objective = dict(report.get("objective") or {})
    model = report.get("model") or {}
    name = objective.pop("name", None)
    parts = []
    if name:
        settings = _plain_settings(objective, limit=6)
        parts.append(f"objective {name}" + (f" ({settings})" if settings else ""))
    if model.get("name"):
        size = model.get("parameters")
        parts.append(f"model {model['name']}" + (f" ({size:,} parameters)" if size else ""))
    if report.get("steps") is not None:
        parts.append(f"{report['steps']:,} steps")
    if report.get("train_seconds") is not None:
        parts.append(f"trained for {_duration(report['train_seconds'])}")
    return _sentence(", ".join(parts))


def _neighborhood_text(report: Report) -> str:
    neighborhood = report.get("neighborhood") or {}
    order = neighborhood.get("order")
    if isinstance(order, list | tuple):
        order = ", then ".join(str(stage) for stage in order)
    values = [neighborhood.get("type"), order, neighborhood.get("range")]
    parts = [str(value) for value in values if value]
    return "Perturbed neighborhood: " + "; ".join(parts) if parts else ""


def _rows(report: Report) -> list[_Row]:
    """All results: clean, each attack, worst case."""
    rows = []
    if clean := report.get("clean"):
        rows.append(_row("clean", "clean", "untampered images", clean))
    for attack in report.get("attacks") or ():
        rows.append(_row("attack", str(attack.get("name", "?")), _short_settings(attack), attack))
    if worst := report.get("worst_case"):
        names = ", ".join(str(name) for name in worst.get("attacks") or ())
        text = f"image by image, of {names}" if names else "image by image, of all attacks"
        rows.append(_row("worst", "worst case", text, worst))
    return rows


def _row(kind: str, name: str, settings: str, result: Mapping[str, Any]) -> _Row:
    interval = result.get("ci95")
    if interval is not None:
        low, high = (_finite(bound) for bound in interval)
        interval = None if low is None or high is None else (low, high)
    accuracy, seconds = _finite(result.get("accuracy")), _finite(result.get("seconds"))
    return _Row(kind, name, settings, accuracy, interval, result.get("n"), seconds)


def _risks(report: Report) -> list[tuple[str, float]]:
    """The risks that are there, by key, in the order of eq. (6)."""
    risks = report.get("risks") or {}
    values = {key: _finite(risks.get(key)) for key in RISK_MEANINGS}
    return [(key, value) for key, value in values.items() if value is not None]


# Settings that a short description names, with the spellings they may have.
_SHORT = (
    (("grid",), "{} grid"),
    (("num_samples", "samples", "k"), "{} draws"),
    (("points",), "{} points"),
    (("max_translation",), "{} px"),
    (("max_rotation",), "{} deg"),
    (("num_steps", "steps"), "{} steps"),
    (("max_iterations", "iterations"), "{} iterations"),
    (("binary_search_steps", "search_steps"), "{} binary searches"),
    (("num_queries", "max_queries", "queries"), "{} queries"),
    (("num_targets", "targets"), "{} targets"),
    (("num_restarts", "restarts"), "{} restarts"),
    (("step_size",), "step {}"),
    (("decay",), "decay {}"),
    (("theta",), "theta {}"),
    (("gamma",), "gamma {}"),
    (("sigma",), "sigma {}"),
    (("hue",), "hue {}"),
    (("saturation",), "saturation {}"),
    (("brightness",), "brightness {}"),
    (("contrast",), "contrast {}"),
    (("grey", "gray"), "grey {}"),
)


def _short_settings(attack: Mapping[str, Any]) -> str:
    """The settings of an attack that one looks for first, e.g. "linf eps 0.3, 40 steps"."""
    settings = dict(attack.get("settings") or {})
    epsilon = attack.get("epsilon")
    text = _describe(settings, epsilon if epsilon is not None else settings.get("epsilon"))
    norm = str(attack.get("norm") or "")
    if not text:
        return ", ".join(part for part in (norm, _plain_settings(settings, limit=3)) if part)
    # Grids and degrees say it themselves.
    return f"{norm} {text}" if norm and text.startswith("eps ") else text


def _describe(settings: Mapping[str, Any], epsilon: Any) -> str:
    stages = [stage for stage in settings.get("stages") or () if isinstance(stage, Mapping)]
    if any("epsilon" in stage for stage in stages):
        epsilon = None
    parts = [] if epsilon is None else [f"eps {_number(epsilon)}"]
    # A spatial search has settings for both ways and uses one.
    unused = {"random": "grid", "grid": "num_samples"}.get(str(settings.get("search")))
    for keys, template in _SHORT:
        values = (settings[key] for key in keys if settings.get(key) is not None and key != unused)
        value = next(values, None)
        if value is None or isinstance(value, Mapping | bool):
            continue
        text = template.format(_number(value))
        parts.append(text[:-1] if value == 1 and template.endswith("s") else text)
    if isinstance(inner := settings.get("neighborhood"), Mapping):
        parts.append(_describe(inner, inner.get("epsilon") if epsilon is None else None))
    described = (_describe(stage, stage.get("epsilon")) for stage in stages)
    parts.append(", then ".join(text for text in described if text))
    return ", ".join(part for part in parts if part)


def _plain_settings(settings: Mapping[str, Any], limit: int) -> str:
    """The first few single values, as "name value"."""
    plain = {k: v for k, v in settings.items() if isinstance(v, int | float | str)}
    return ", ".join(f"{k} {_number(v)}" for k, v in list(plain.items())[:limit])


def _number(value: Any) -> str:
    """Short: 0.3, 8/255 for 0.031372…, 5x5x31 for a list."""
    if isinstance(value, list | tuple):
        return "x".join(_number(item) for item in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    levels = value * 255
    # A float32 0.2 is a decimal, too, though it isn't quite 0.2.
    is_decimal = abs(value - round(value, 3)) < 1e-7
    if 0 < value < 1 and not is_decimal and abs(levels - round(levels)) < 1e-4:
        return f"{round(levels)}/255"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.2f}"


def _interval(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"[{_percent(interval[0])}, {_percent(interval[1])}]"


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:,.1f}" if seconds < 100 else f"{seconds:,.0f}"


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _shorten(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3].rstrip() + "..."


# The terminal ------------------------------------------------------------------------------

_ASCII = str.maketrans(
    {"∞": "inf", "ε": "eps", "λ": "lambda", "σ": "sigma", "θ": "theta", "β": "beta"}
    | {"≤": "<=", "≥": ">=", "×": "x", "→": "->", "–": "-", "—": "-", "°": " deg"}
    | {"‘": "'", "’": "'", "“": '"', "”": '"', "‖": "||", "…": "..."}
)


def _ascii(text: str) -> str:
    """Printable ASCII only: a name can't move the cursor or color the terminal."""
    spelled = text.translate(_ASCII)
    letters = (
        letter
        for letter in unicodedata.normalize("NFKD", spelled)
        if not unicodedata.combining(letter)
    )
    return "".join(letter if " " <= letter <= "~" else "?" for letter in letters)


def _wrap(text: str, first: str = "", rest: str = "") -> list[str]:
    lines = textwrap.wrap(_ascii(text), TABLE_WIDTH, initial_indent=first, subsequent_indent=rest)
    return lines or [""]


def _table_lines(rows: Sequence[_Row]) -> list[str]:
    header = ("attack", "settings", "accuracy %", "95% interval", "n", "seconds")
    cells = [
        (
            _shorten(_ascii(row.name), 20),
            _ascii(row.settings),
            _percent(row.accuracy),
            _interval(row.interval),
            _count(row.n),
            _seconds(row.seconds),
        )
        for row in rows
    ]
    widths = [max(len(line[i]) for line in (header, *cells)) for i in range(len(header))]
    room = TABLE_WIDTH - (sum(widths) - widths[1]) - 2 * (len(widths) - 1)
    widths[1] = min(widths[1], room)
    lines = _cell_lines(header, widths)
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    for row, line in zip(rows, cells, strict=True):
        # A rule below the header, and one before the worst case.
        if row is rows[0] or row.kind == "worst":
            lines.append(rule)
        lines += _cell_lines(line, widths)
    return lines


def _cell_lines(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """One row, on as many lines as its settings need."""
    first, *more = textwrap.wrap(cells[1], widths[1]) or [""]
    texts = (cells[0], first, *cells[2:])
    aligned = [
        text.ljust(width) if column < 2 else text.rjust(width)
        for column, (text, width) in enumerate(zip(texts, widths, strict=True))
    ]
    return ["  ".join(aligned).rstrip(), *(" " * (widths[0] + 2) + text for text in more)]


# The figures -------------------------------------------------------------------------------

# Okabe and Ito's colors, told apart with the common kinds of color blindness.
_BLUE, _SKY, _VERMILION, _GREEN, _PURPLE, _ORANGE = (
    "#0072B2",
    "#7FB2D6",
    "#C04A00",
    "#00795A",
    "#A6518A",
    "#D18A00",
)
_INK, _GREY = "#222222", "#666666"
_BAR_COLORS = {"clean": _BLUE, "attack": _SKY, "worst": _VERMILION}
_LINES = (
    (_BLUE, "-"),
    (_VERMILION, "--"),
    (_GREEN, "-."),
    (_PURPLE, ":"),
    (_ORANGE, (0, (5, 1, 1, 1, 1, 1))),
    (_INK, (0, (1, 1))),
)
# Fonts with the letters that DejaVu lacks; class names are often Chinese.
_MORE_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei"),
    *("Microsoft YaHei", "SimHei", "PingFang SC", "Arial Unicode MS"),
)


@contextmanager
def _style() -> Iterator[None]:
    """Matplotlib's settings for our figures, put back afterwards."""
    import matplotlib
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    settings = {
        "font.family": ["DejaVu Sans", *(name for name in _MORE_FONTS if name in installed)],
        "font.size": 10,
        "text.color": _INK,
        "text.parse_math": False,
        "axes.labelcolor": _INK,
        "axes.edgecolor": "#999999",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "grid.color": "#E4E4E4",
        "xtick.color": _GREY,
        "ytick.color": _GREY,
        "legend.frameon": False,
        "savefig.dpi": 150,
    }
    with matplotlib.rc_context(settings):
        yield


def _new_figure(report: Report, title: str, width: float, height: float) -> Figure:
    """An empty figure with its title and, for a reduced run, the note of that."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    per_line = int(width * 11)
    lines = _few_lines(title, per_line) or [""]
    if note := _reduced_note(report):
        lines += _few_lines(f"Reduced run: {note}", per_line)
    figure = Figure(figsize=(width, height + 0.2 * len(lines)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(h_pad=0.07)
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=11)
    return figure


def _few_lines(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, max_lines=2, placeholder=" ...")


def _accuracy_figure(report: Report) -> Figure | None:
    """Horizontal bars with 95% intervals; None without any accuracy."""
    rows = [row for row in _rows(report) if row.accuracy is not None]
    if not rows:
        return None
    title = f"{_title(report)}: accuracy on test images"
    figure = _new_figure(report, title, 8, 0.8 + 0.56 * len(rows))
    axes = figure.add_subplot()
    for height, row in enumerate(rows):
        _draw_bar(axes, height, row)
    axes.set_yticks(range(len(rows)), [])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    intervals = " (lines: 95% interval)" if any(row.interval for row in rows) else ""
    axes.set_xlabel(f"accuracy in %{intervals}")
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    return figure


def _draw_bar(axes: Axes, height: int, row: _Row) -> None:
    """A bar, its name and settings to the left, its numbers to the right."""
    percent = 100 * row.accuracy
    axes.barh(height, percent, height=0.5, color=_BAR_COLORS[row.kind])
    if row.interval is not None:
        low, high = (100 * bound for bound in row.interval)
        # Rounding may put an end on the wrong side of the value.
        reach = [[max(0.0, percent - low)], [max(0.0, high - percent)]]
        axes.errorbar(percent, height, xerr=reach, color=_INK, capsize=3.5, lw=1.3, clip_on=False)
    small = {"fontsize": 8, "color": _GREY, "va": "top", "linespacing": 1.1, "clip_on": False}
    settings = _few_lines(row.settings, 42)
    # The name makes room for a second line below it.
    middle = height - (0.15 if len(settings) > 1 else 0.0)
    name = _shorten(row.name, 34)
    axes.text(-1.5, middle - 0.03, name, ha="right", va="bottom", clip_on=False)
    axes.text(-1.5, middle + 0.03, "\n".join(settings), ha="right", **small)
    value = {"fontweight": "bold", "va": "bottom" if row.interval else "center", "clip_on": False}
    axes.text(102.5, height, _percent(row.accuracy), **value)
    if row.interval:
        axes.text(102.5, height + 0.05, _interval(row.interval), **small)


def _read_history(path: Path | None) -> dict[str, np.ndarray]:
    """Numeric columns of history.csv, one row a step; empty without the file."""
    if path is None or not Path(path).is_file():
        return {}
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = [{k: v for k, v in row.items() if k is not None} for row in csv.DictReader(file)]
    # A resumed run repeats the steps since its checkpoint: the last ones count.
    rows = list({row.get("step") or index: row for index, row in enumerate(rows)}.values())
    columns = {name: [_parse(row.get(name)) for row in rows] for name in (rows[0] if rows else ())}
    return {name: np.array(values) for name, values in columns.items() if np.isfinite(values).any()}


def _parse(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


_NO_LOSSES = {"step", "epoch", "learning_rate", "lr", "seconds", "time", "strength"}


def _is_loss(column: str) -> bool:
    other = column.startswith("val_") or column.endswith(("accuracy", "seconds", "_second"))
    return not other and column not in _NO_LOSSES


def _training_figure(report: Report, history: Mapping[str, np.ndarray]) -> Figure | None:
    """Losses and validation accuracies by step; None if there are none."""
    # The total comes first, whatever the order of the columns.
    names = sorted(filter(_is_loss, history), key=lambda name: name != "loss")
    losses = {name: history[name] for name in names}
    accuracies = {
        name: 100 * values
        for name, values in history.items()
        if name.startswith("val_") and name.endswith("accuracy")
    }
    panels = [(losses, "loss"), (accuracies, "validation accuracy in %")]
    panels = [(curves, label) for curves, label in panels if curves]
    if not panels:
        return None
    axis = "step" if "step" in history else "epoch" if "epoch" in history else "row of history.csv"
    rows = np.arange(len(next(iter(history.values()))))
    figure = _new_figure(report, f"{_title(report)}: training", 8, 2.6 * len(panels))
    grid = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, (curves, label) in zip(grid, panels, strict=True):
        _draw_curves(axes, history.get(axis, rows), curves, label)
        _mark_learning_rates(axes, history.get(axis, rows), history.get("learning_rate"))
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
    grid[-1].set_xlabel(axis)
    return figure


def _draw_curves(
    axes: Axes, steps: np.ndarray, curves: Mapping[str, np.ndarray], label: str
) -> None:
    names = {"loss": "total", "val_accuracy": "clean", "val_robust_accuracy": "robust"}
    for number, (name, values) in enumerate(curves.items()):
        color, dashes = _LINES[number % len(_LINES)]
        known = np.isfinite(steps) & np.isfinite(values)
        marker = "o" if known.sum() <= 20 else None
        text = _shorten(names.get(name, name.removeprefix("val_")), 18)
        axes.plot(
            steps[known], values[known], color=color, ls=dashes, lw=1.7, marker=marker, ms=3.5,
            label=text,
        )  # fmt: skip
    axes.grid(axis="y")
    axes.margins(x=0.02)
    if label == "loss":
        shown = np.concatenate([values[np.isfinite(values)] for values in curves.values()])
        # A first loss far above the rest would flatten all that follows.
        if shown.min() > 0 and shown.max() > 30 * shown.min():
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
            label = "loss (log scale)"
    axes.set_ylabel(label)


def _mark_learning_rates(axes: Axes, steps: np.ndarray, rates: np.ndarray | None) -> None:
    """A line where the learning rate drops, unless it changes all the time."""
    if rates is None:
        return
    changes = np.flatnonzero(np.abs(np.diff(rates)) > 1e-9) + 1
    for index in changes if len(changes) <= 4 else ():
        label = "learning rate\nchanges" if index == changes[0] else None
        axes.axvline(steps[index], color="#999999", ls=(0, (1, 2)), lw=1.2, zorder=0, label=label)


def _examples_figure(
    report: Report, examples: Examples | None, class_names: Sequence[str]
) -> Figure | None:
    """x, x' and their difference, a row or half a row for each image."""
    count = 0 if examples is None else min(len(examples.images), MAX_EXAMPLES)
    if count == 0:
        return None
    blocks = 1 if count <= 4 else 2
    rows = math.ceil(count / blocks)
    # Letters need the same room, however many images are side by side.
    width, cell = (6.0, 1.65) if blocks == 1 else (9.6, 1.4)
    title = f"{_title(report)}: images before and after {examples.attack}"
    figure = _new_figure(report, title, width, 0.4 + rows * (cell + 0.3))
    # Two images in a row get an empty column between them.
    ratios = ([1, 1, 1, 0.12] * blocks)[:-1]
    grid = figure.subplots(rows, len(ratios), squeeze=False, gridspec_kw={"width_ratios": ratios})
    for axes in grid.flat:
        axes.set_axis_off()
    changes = examples.perturbed[:count] - examples.images[:count]
    largest = max(float(np.abs(changes).max()), 1e-6)
    for index in range(count):
        block, row = divmod(index, rows)
        _draw_example(grid[row, 4 * block : 4 * block + 3], examples, index, largest, class_names)
    figure.supxlabel(
        "left: image, middle: after the attack, each with the model's answer; right: difference,\n"
        f"grey = none, black and white = \N{PLUS-MINUS SIGN}{_number(largest)}",
        fontsize=9,
        color=_GREY,
    )
    return figure


def _draw_example(
    cells: Sequence[Axes], examples: Examples, index: int, largest: float, names: Sequence[str]
) -> None:
    before, after = examples.images[index], examples.perturbed[index]
    label = int(examples.labels[index])
    for axes, image in zip(
        cells, (before, after, 0.5 + (after - before) / (2 * largest)), strict=True
    ):
        axes.imshow(_displayable(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    for axes, answer, arrow in (
        (cells[0], int(examples.before[index]), ""),
        (cells[1], int(examples.after[index]), "\N{RIGHTWARDS ARROW} "),
    ):
        right = answer == label
        # Signs besides colors: not everyone sees green and red.
        sign = "\N{CHECK MARK}" if right else "\N{BALLOT X}"
        text = f"{arrow}{_class_name(answer, names)} {sign}"
        axes.set_title(text, fontsize=9, loc="center", color=_GREEN if right else _VERMILION)
    if int(examples.before[index]) != label:
        text = f"is {_class_name(label, names)}"
        cells[2].set_title(text, fontsize=9, loc="center", color=_GREY)


def _displayable(image: np.ndarray) -> np.ndarray:
    """[height, width] or [height, width, 3], in [0, 1]."""
    image = np.clip(np.asarray(image, np.float32), 0, 1)
    if image.ndim == 3 and image.shape[-1] != 3:
        image = image.mean(axis=-1)
    return image


def _class_name(number: int, names: Sequence[str]) -> str:
    return _shorten(str(names[number]), 14) if 0 <= number < len(names) else str(number)


# The web page ------------------------------------------------------------------------------

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")

_CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f7f8; color: #222;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.25rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.5rem 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 0.6rem; }
p { margin: 0.3rem 0; overflow-wrap: anywhere; }
section { background: #fff; border: 1px solid #e0e3e6; border-radius: 8px;
  padding: 1rem; margin: 1rem 0; }
.reduced { background: #fff4dc; border-left: 4px solid #d18a00; padding: 0.5rem 0.75rem; }
.note { color: #555; font-size: 0.9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: #555; font-size: 0.9rem; padding-bottom: 0.4rem; }
th, td { padding: 0.45rem 0.6rem; text-align: right; vertical-align: top;
  border-bottom: 1px solid #e6e8ea; white-space: nowrap; }
th { font-weight: 600; }
th:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere;
  min-width: 8rem; }
th small { display: block; font-weight: 400; color: #555; }
tr.worst > * { border-top: 2px solid #c04a00; background: #fdf4ef; }
dl { display: grid; grid-template-columns: max-content max-content 1fr; gap: 0.3rem 0.9rem;
  margin: 0 0 0.6rem; font-variant-numeric: tabular-nums; }
dt { font-weight: 600; }
dd { margin: 0; }
figure { margin: 0 0 1.25rem; }
figure:last-child { margin-bottom: 0; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { color: #555; font-size: 0.9rem; margin-top: 0.3rem; }
summary { cursor: pointer; }
pre { overflow-x: auto; font-size: 0.8rem; background: #f6f7f8; padding: 0.75rem; }
@media (max-width: 36rem) {
  main { padding: 0.75rem 0.5rem 2rem; }
  section { padding: 0.75rem; }
  table { font-size: 0.82rem; }
  th, td { padding: 0.4rem 0.3rem; }
  dl { grid-template-columns: max-content 1fr; }
  dl .meaning { grid-column: 1 / -1; margin-bottom: 0.4rem; }
}
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""


def _results_html(report: Report) -> str:
    rows = _rows(report)
    if not rows:
        return ""
    worst = next((row for row in rows if row.kind == "worst"), None)
    lines = []
    for row in rows:
        values = (_percent(row.accuracy), _interval(row.interval), _count(row.n))
        cells = "".join(f"<td>{value}</td>" for value in (*values, _seconds(row.seconds)))
        head = f"{escape(row.name)}<small>{escape(row.settings)}</small>"
        lines.append(f'<tr class="{row.kind}"><th scope="row">{head}</th>{cells}</tr>')
    names = ("Attack", "Accuracy %", "95% interval", "n", "Seconds")
    header = "".join(f'<th scope="col">{name}</th>' for name in names)
    note = _reduced_note(report)
    caption = "Share of test images that are right, before and after the attack alike."
    caption += f" Reduced run: {note}" if note else ""
    table = (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{header}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>"
    )
    text = ""
    if worst is not None:
        text = (
            f"<p><strong>Worst case: {_percent(worst.accuracy)}%.</strong> An image counts if it "
            "stays right under every attack of the table's last row.</p>"
        )
    return (
        '<section><h2>Results</h2><div class="scroll" role="region" aria-label="Results" '
        f'tabindex="0">{table}</div>{text}<p class="note">{escape(SEARCH_NOTE)}</p></section>'
    )


def _risks_html(report: Report) -> str:
    risks = _risks(report)
    if not risks:
        return ""
    items = "".join(
        f"<dt>{_subscript(RISK_MEANINGS[key][0])}</dt><dd>{value:.4f}</dd>"
        f'<dd class="meaning">{escape(RISK_MEANINGS[key][1])}</dd>'
        for key, value in risks
    )
    bound = ""
    if len(risks) == len(RISK_MEANINGS):
        bound = f'<p class="note">{_subscript(escape(BOUND_NOTE))}</p>'
    note = _reduced_note(report)
    reduced = f'<p class="note">Reduced run: {escape(note)}</p>' if note else ""
    return f"<section><h2>Risks</h2><dl>{items}</dl>{bound}{reduced}</section>"


def _subscript(text: str) -> str:
    for symbol, _ in RISK_MEANINGS.values():
        text = text.replace(symbol, f"R<sub>{symbol.removeprefix('R_')}</sub>")
    return text


def _figures_html(report: Report, figures: Sequence[Path]) -> str:
    """The images themselves, with a text for those who can't see them."""
    if not figures:
        return ""
    captions = {
        "accuracy": "Accuracy without tampering, under each attack and in the worst case.",
        "training": "Loss terms and validation accuracies by step.",
        "examples": "Images before and after an attack, and the difference.",
    }
    values = (f"{row.name} {_percent(row.accuracy)}%" for row in _rows(report))
    texts = {"accuracy": f"Bar chart of accuracies: {', '.join(values)}."}
    parts = []
    for figure in map(Path, figures):
        data = base64.b64encode(figure.read_bytes()).decode("ascii")
        caption = captions.get(figure.stem, figure.stem)
        text = escape(texts.get(figure.stem, caption))
        parts.append(
            f'<figure><img alt="{text}" src="data:image/png;base64,{data}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
    return f"<section><h2>Figures</h2>{''.join(parts)}</section>"
