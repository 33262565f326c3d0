"""A comparison of runs as a Markdown table and as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.core.files import write_figure
from keras_srt.core.formatting import format_interval, format_percent, shorten
from keras_srt.report.figure_style import DPI, STYLE, new_figure
from keras_srt.report.model_card import plain

_COLORS = ("#0072B2", "#C04A00", "#00795A", "#A6518A", "#D18A00", "#222222")
_MARKERS = "osD^vP"
_TESTS = {
    True: "McNemar's exact test on paired images",
    False: "Fisher's exact test, because the test images differ or predictions were not saved",
}


def comparison_lines(comparison: Mapping[str, Any]) -> list[str]:
    """Format a comparison as lines of Markdown.

    Args:
        comparison: Result of `keras_srt.evaluation.significance.compare`.
    """
    runs, rows = comparison["runs"], comparison["rows"]
    lines = [f"{number}. {plain(_about(run))}" for number, run in enumerate(runs, start=1)]
    heads = ["accuracy in %", *(str(number) for number in range(1, len(runs) + 1))]
    lines += ["", _markdown(heads), _markdown(["---"] * len(heads))]
    lines += [_markdown([plain(row["name"]), *map(_cell, row["cells"])]) for row in rows]
    count = sum(len(row["cells"]) - 1 for row in rows)
    tests = "; ".join(sorted({_TESTS[run["paired"]] for run in runs[1:]}))
    if any("corruptions" in row["name"] for row in rows):
        tests += "; t-test for the mean over corruptions"
    lines += [
        "",
        "In brackets: 95% interval, followed by the difference from run 1 in percentage points. "
        f"**Bold**: significant at 5%, adjusted for all {count} differences (Holm). {tests}.",
        "Significance refers to the sample of test images; other training seeds may give other "
        "results.",
    ]
    return lines + [f"Omitted: {plain(text)}." for text in comparison["left_out"]]


def _about(run: Mapping[str, Any]) -> str:
    reduced = f", reduced run: {run['reduced']}" if run["reduced"] else ""
    return f"{run['name']} ({run['folder']}{reduced})"


def _markdown(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Mapping[str, Any]) -> str:
    text = f"{format_percent(cell['accuracy'])} {format_interval(cell['ci95'])}"
    if "difference" not in cell:
        return f"{text} n={cell['n']:,}"
    difference = f"{100 * cell['difference']:+.2f} (p={cell['adjusted_p']:.2g})"
    return f"{text} {f'**{difference}**' if cell['significant'] else difference}"


def write_comparison_figure(comparison: Mapping[str, Any], path: Path) -> None:
    """Draw accuracies with their intervals: one row per attack, one color per run.

    Args:
        comparison: Result of `keras_srt.evaluation.significance.compare`.
        path: The PNG file.
    """
    import matplotlib

    runs, rows = comparison["runs"], comparison["rows"]
    with matplotlib.rc_context(STYLE):
        height = 0.9 + len(rows) * (0.2 + 0.16 * len(runs)) + 0.2 * len(runs)
        figure = new_figure({"name": "comparison"}, "accuracy with 95% intervals", height)
        axes = figure.add_subplot()
        for number, run in enumerate(runs):
            cells = [row["cells"][number] for row in rows]
            values = 100 * np.array([cell["accuracy"] for cell in cells])
            bounds = 100 * np.array([cell["ci95"] for cell in cells])
            places = np.arange(len(rows)) + 0.7 * ((number + 0.5) / len(runs) - 0.5)
            color = _COLORS[number % len(_COLORS)]
            axes.errorbar(
                values, places, xerr=np.abs(bounds.T - values), fmt=_MARKERS[number % 6],
                color=color, ms=4.5, lw=1.3, capsize=2.5, clip_on=False,
                label=f"{number + 1}. {shorten(run['name'], 40)}",
            )  # fmt: skip
        for place in range(1, len(rows)):
            axes.axhline(place - 0.5, color="#E4E4E4", lw=0.8)
        axes.set_yticks(range(len(rows)), [shorten(row["name"], 22) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(0, 100)
        axes.set_xlabel("accuracy in %")
        axes.grid(axis="x")
        figure.legend(loc="outside lower left", fontsize=8)
        write_figure(path, figure, dpi=DPI)
