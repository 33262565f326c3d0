"""Figures of classes: accuracy of each class, and confusion matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_srt.core.formatting import shorten
from keras_srt.report.figure_style import BLUE, GREY, SKY, VERMILION, new_figure
from keras_srt.report.rows import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_CLASSES = 25  # the figure shows only the weakest classes
_MAX_NUMBERED = 12  # up to this many classes, the cells show numbers
_TITLES = {"clean": "predictions on clean images", "worst_case": "predictions in the worst case"}


def classes_figure(report: Report) -> Figure | None:
    """Draw clean and worst-case accuracy of each class, the weakest class first."""
    classes = [each for each in report.get("classes", ()) if each["n"]]
    if not classes:
        return None
    weakest = sorted(classes, key=lambda each: each["worst_case"]["accuracy"])[:_MAX_CLASSES]
    title = "accuracy of each class"
    if len(weakest) < len(classes):
        title = f"accuracy of the {len(weakest)} weakest of {len(classes)} classes"
    figure = new_figure(report, title, 0.95 + 0.27 * len(weakest))
    axes = figure.add_subplot()
    places = np.arange(len(weakest))
    clean, worst = (
        np.array([100 * each[kind]["accuracy"] for each in weakest])
        for kind in ("clean", "worst_case")
    )
    low, high = 100 * np.array([each["worst_case"]["ci95"] for each in weakest]).T
    axes.hlines(places, low, high, color=SKY, lw=6, alpha=0.6, label="worst case, 95% interval")
    axes.plot(worst, places, "o", color=VERMILION, ms=6, label="worst case", clip_on=False)
    axes.plot(clean, places, "D", color=BLUE, ms=5, label="clean", clip_on=False)
    names = [f"{shorten(each['name'], 16)} ({each['n']:,})" for each in weakest]
    axes.set_yticks(places, names)
    axes.set_ylim(len(weakest) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel("accuracy in %; number of images in parentheses")
    axes.grid(axis="x")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, handletextpad=0.3,
                  columnspacing=1.0)  # fmt: skip
    return figure


def confusion_figure(report: Report, kind: str) -> Figure | None:
    """Draw a confusion matrix; None if the report has none.

    Args:
        report: Content of `report.json`.
        kind: "clean" or "worst_case".
    """
    if "confusion" not in report:
        return None
    counts = np.array(report["confusion"][kind])
    names = [shorten(each["name"], 11) for each in report["classes"]]
    shares = counts / np.maximum(1, [[each["n"]] for each in report["classes"]])
    figure = new_figure(report, _TITLES[kind], 4.4)
    axes = figure.add_subplot()
    # Colors show fractions of the true class, because classes differ in size; numbers are images.
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts if len(names) <= _MAX_NUMBERED else ()):
        if count:
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(
                column, row, f"{count:,}", ha="center", va="center", fontsize=7.5, color=color
            )
    upright = all(len(name) <= 2 for name in names)
    axes.set_xticks(range(len(names)), names, rotation=0 if upright else 90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("prediction")
    axes.set_ylabel("true class")
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(GREY)
    return figure
