"""Figures of the results: bars for tables, lines for sweeps, diamonds for the patent's numbers."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_srt.core.files import write_figure
from keras_srt.report.figure_style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    STYLE,
    VERMILION,
)
from keras_srt.reproduce.target_results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Markers and dashes repeat the information of the colors.
_COLORS = (GREY, BLUE, ORANGE, PURPLE, GREEN, SKY, VERMILION)
# Objectives with the same color in every figure.
_COLOR_OF = {"rt": 5, "srt": 6}
_MARKERS = ("o", "s", "^", "v", "D", "P", "X")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), "-")
# The share of white in the color of the smallest of many λ.
_PALEST = 0.7
_GROUP = 0.84  # width of a group of bars, as a fraction of the distance between groups


def draw(results: Results, path: Path) -> None:
    """Draw all panels of a target, from top to bottom, to a PNG file.

    Args:
        results: From `make_results`.
        path: The PNG file to write.
    """
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure = make_figure(results)
        write_figure(path, figure)


def make_figure(results: Results) -> Figure:
    """Make the figure of a target, with one axes per panel."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = results["panels"]
    bars = max(len(panel["columns"]) * len(panel["rows"]) for panel in panels)
    width = 8.0 if panels[0]["axis"] else min(14.0, max(8.0, 2.5 + 0.17 * bars))
    figure = Figure(figsize=(width, 0.7 + 3.4 * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(_title(results, int(11 * width)), x=0.01, ha="left", fontsize=11)
    for axes, panel in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        _draw_panel(axes, panel)
    return figure


def _title(results: Results, width: int) -> str:
    lines = [f"{results['title']}: {results['dataset']}"]
    if results["reduced"]:
        lines.append(f"Reduced run: scale {results['scale']}")
    return "\n".join(line for text in lines for line in textwrap.wrap(text, width))


def _draw_panel(axes: Axes, panel: Results) -> None:
    draw_row = _draw_line if panel["axis"] else _draw_bars
    rows = panel["rows"]
    for index in range(len(rows)):
        draw_row(axes, index, rows)
    axes.set_title(panel["title"], loc="left", fontsize=10)
    axes.set_xticks(range(len(panel["columns"])), [column["title"] for column in panel["columns"]])
    axes.set_xlim(-0.6, len(panel["columns"]) - 0.4)
    axes.set_xlabel(panel["axis"] or "")
    axes.set_ylabel("accuracy in %")
    axes.set_ylim(0, 102)
    axes.grid(axis="y")
    # Matplotlib warns about a legend without handles.
    handles, labels = _once(axes)
    if handles:
        place = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "fontsize": 9}
        axes.legend(handles, labels, **place)


def _once(axes: Axes) -> tuple[list[Any], list[str]]:
    """Return each legend entry once, the patent's numbers last."""
    entries = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    labels = sorted(entries, key=lambda label: label == "patent")
    return [entries[label] for label in labels], labels


def _draw_bars(axes: Axes, index: int, rows: Sequence[Results]) -> None:
    """Draw one bar in each group."""
    row, width = rows[index], _GROUP / len(rows)
    shift = (index - (len(rows) - 1) / 2) * width
    places, values, reach = _values(row["cells"])
    color = _bar_color(index, rows)
    places = [place + shift for place in places]
    if places:
        axes.bar(places, values, 0.9 * width, color=color, label=row["title"])
        axes.errorbar(places, values, reach, fmt="none", ecolor=INK, elinewidth=0.8, capsize=1.5)
    _mark_patent(axes, row["cells"], shift)


def _bar_color(index: int, rows: Sequence[Results]) -> str:
    """Return the color of a defense; a lighter one for the smaller of several λ."""
    from matplotlib.colors import to_hex, to_rgb

    defense = _defense(rows[index])
    if defense not in _COLOR_OF:
        return _COLORS[index % len(_COLORS)]
    color = _COLORS[_COLOR_OF[defense]]
    alike = [number for number, row in enumerate(rows) if _defense(row) == defense]
    white = _PALEST * (1 - (alike.index(index) + 1) / len(alike))
    return to_hex([white + (1 - white) * part for part in to_rgb(color)])


def _defense(row: Results) -> str:
    """Return the objective of a row: "srt" of "srt_0.2" and "srt_clean"."""
    key: str = row["key"]
    objective = key.partition("_")[0]
    return objective if objective in _COLOR_OF else key


def _draw_line(axes: Axes, index: int, rows: Sequence[Results]) -> None:
    """Draw a line with confidence intervals."""
    row = rows[index]
    places, values, reach = _values(row["cells"])
    # A sweep has several lines per defense: srt_clean, srt_pgd.
    color = _COLOR_OF.get(_defense(row), index)
    look: dict[str, object] = {
        "color": _COLORS[color % len(_COLORS)],
        "ls": _DASHES[index % len(_DASHES)],
        "marker": _MARKERS[index % len(_MARKERS)],
        "ms": 4,
        "lw": 1.5,
    }
    if places:
        axes.errorbar(places, values, reach, capsize=2, elinewidth=0.8, label=row["title"], **look)
    _mark_patent(axes, row["cells"], 0.0)


def _values(cells: Sequence[Results]) -> tuple[list[float], list[float], list[list[float]]]:
    """Return positions, accuracies in % and interval lengths of the cells with a result."""
    places, values, below, above = [], [], [], []
    for place, cell in enumerate(cells):
        if cell["accuracy"] is not None:
            low, high = cell["ci95"]
            places.append(float(place))
            values.append(100 * cell["accuracy"])
            # Rounding can move an end of the interval past the value.
            below.append(max(0.0, 100 * (cell["accuracy"] - low)))
            above.append(max(0.0, 100 * (high - cell["accuracy"])))
    return places, values, [below, above]


def _mark_patent(axes: Axes, cells: Sequence[Results], shift: float) -> None:
    known = [(place + shift, 100 * c["patent"]) for place, c in enumerate(cells) if c["patent"]]
    if known:
        look = {"marker": "D", "s": 22, "color": "white", "edgecolors": INK, "zorder": 3}
        axes.scatter(*zip(*known, strict=True), label="patent", **look)
