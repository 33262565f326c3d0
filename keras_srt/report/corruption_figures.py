"""Figures of corruptions: a heat map of accuracies, and an image under each corruption."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_srt.corruptions import CORRUPTIONS, SEVERITIES
from keras_srt.report.example_figure import Examples
from keras_srt.report.figure_style import new_figure
from keras_srt.report.heat_map import draw_heat_map
from keras_srt.report.rows import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def corruptions_figure(report: Report) -> Figure | None:
    """Draw a heat map of the accuracy over corruption and severity; None if not measured."""
    if "corruptions" not in report:
        return None
    parts = report["corruptions"]["corruptions"]
    values = 100 * np.array([[cell["accuracy"] for cell in p["severities"]] for p in parts])
    figure = new_figure(report, "accuracy on corrupted images", 0.9 + 0.24 * len(parts))
    names = [part["name"] for part in parts]
    columns = [str(severity) for severity in SEVERITIES]
    axes = draw_heat_map(figure, values, names, columns, report["corruptions"]["n"])
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel("severity")
    return figure


def corrupted_image_figure(report: Report, examples: Examples) -> Figure | None:
    """Draw the first example under each corruption; None if corruptions were not measured."""
    if "corruptions" not in report or not len(examples.images):
        return None
    names = [part["name"] for part in report["corruptions"]["corruptions"]]
    clean = np.uint8(np.round(255 * examples.images[:1]))
    figure = new_figure(report, "an image under each corruption", 0.2 + 0.62 * len(names))
    grid = figure.subplots(len(names), 1 + len(SEVERITIES), squeeze=False)
    for row, name in zip(grid, names, strict=True):
        pictures = [clean, *(CORRUPTIONS[name].apply(clean, each) for each in SEVERITIES)]
        for axes, picture in zip(row, pictures, strict=True):
            shown = picture[0] if picture.shape[3] == 3 else picture[0].mean(axis=-1)
            axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set_axis_off()
        row[0].text(
            -0.1, 0.5, name, transform=row[0].transAxes, ha="right", va="center", fontsize=8
        )
    for axes, title in zip(grid[0], ("clean", *SEVERITIES), strict=True):
        axes.set_title(str(title), fontsize=8)
    return figure
