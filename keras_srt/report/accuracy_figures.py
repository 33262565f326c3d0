"""Figures of accuracies: per attack, and as a function of the perturbation size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_srt.core.formatting import format_interval, format_number, format_percent, shorten
from keras_srt.report.figure_style import BLUE, GREY, INK, SKY, VERMILION, few_lines, new_figure
from keras_srt.report.heat_map import draw_heat_map
from keras_srt.report.rows import Report, Row, rows_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = Sequence[Mapping[str, Any]]

_BAR_COLORS = {"clean": BLUE, "attack": SKY, "worst": VERMILION}


def accuracy_figure(report: Report) -> Figure:
    """Draw horizontal bars with 95% intervals, with names and numbers above them."""
    rows = rows_of(report)
    figure = new_figure(report, "accuracy on test images", 0.5 + 0.62 * len(rows))
    axes = figure.add_subplot()
    for height, row in enumerate(rows):
        _draw_bar(axes, height, row)
    axes.set_yticks([])
    axes.set_ylim(len(rows) - 0.35, -0.75)
    axes.set_xlim(0, 100)
    axes.set_xlabel("accuracy in % (lines: 95% interval)")
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    return figure


def _draw_bar(axes: Axes, height: int, row: Row) -> None:
    value, (low, high) = 100 * row.accuracy, (100 * bound for bound in row.interval)
    axes.barh(height + 0.05, value, height=0.34, color=_BAR_COLORS[row.kind])
    # Rounding may put an end of the interval on the wrong side of the value.
    reach = [[max(0.0, value - low)], [max(0.0, high - value)]]
    axes.errorbar(value, height + 0.05, xerr=reach, color=INK, capsize=3, lw=1.2, clip_on=False)
    small = {"fontsize": 8, "color": GREY, "va": "bottom"}
    settings, line = height - 0.17, height - 0.41
    bold = {"fontweight": "bold", "ha": "right", "va": "bottom"}
    axes.text(0, line, shorten(row.name, 26), va="bottom")
    axes.text(0, settings, "\n".join(few_lines(row.settings, 60)[:1]), **small)
    axes.text(70, line, format_percent(row.accuracy), **bold)
    axes.text(100, line + 0.02, format_interval(row.interval), ha="right", **small)


def epsilon_figure(report: Report) -> Figure | None:
    """Draw accuracy under PGD against ε, one panel per norm; None if not measured."""
    balls = report.get("curves", {}).get("epsilon", [])
    if not balls:
        return None
    figure = new_figure(report, "accuracy against eps", 2.3 * len(balls))
    for axes, ball in zip(figure.subplots(len(balls), squeeze=False)[:, 0], balls, strict=True):
        points = ball["points"]
        _draw_points(axes, [point["epsilon"] for point in points], points)
        axes.axvline(ball["epsilon"], color=VERMILION, ls="--", lw=1.2)
        what = "evaluated at" if ball["in_evaluation"] else "not the threat model; shown around"
        text = f"{ball['norm']} eps ({what} {format_number(ball['epsilon'])})"
        axes.set_xlabel(text)
    return figure


def angle_figure(report: Report) -> Figure | None:
    """Draw accuracy against the maximum rotation angle; None if not measured."""
    if "curves" not in report:
        return None
    points = report["curves"]["transforms"]["angles"]
    figure = new_figure(report, "accuracy against rotation", 2.4)
    axes = figure.add_subplot()
    _draw_points(axes, [point["angle"] for point in points], points)
    axes.set_xlabel("maximum rotation in degrees, in either direction")
    return figure


def _draw_points(axes: Axes, places: Sequence[float], points: Points) -> None:
    """Draw a curve with its 95% intervals."""
    values = [100 * point["accuracy"] for point in points]
    low, high = 100 * np.array([point["ci95"] for point in points]).T
    axes.fill_between(places, low, high, color=SKY, alpha=0.35, lw=0)
    axes.plot(places, values, color=BLUE, marker="o", ms=4, lw=1.7)
    axes.set_ylim(-3, 103)
    axes.set_xlim(left=0)
    axes.set_ylabel(f"accuracy in %, n = {points[0]['n']:,}")
    axes.grid(axis="y")


def transforms_figure(report: Report) -> Figure | None:
    """Draw a heat map of the accuracy over rotation and translation; None if not measured."""
    if "curves" not in report:
        return None
    part = report["curves"]["transforms"]
    values = 100 * np.array(part["accuracy"])
    figure = new_figure(report, "accuracy against rotation and shift", 0.9 + 0.29 * len(values))
    rows = [f"{turn:.3g}" for turn in part["rotations"]]
    columns = [f"{shift:.3g}" for shift in part["shifts"]]
    axes = draw_heat_map(figure, values, rows, columns, report["curves"]["n"])
    axes.set_xlabel("pixels to the right")
    axes.set_ylabel("degrees, counter-clockwise")
    return figure


def smoothing_figure(report: Report) -> Figure | None:
    """Draw certified and attacked accuracy against the L2 radius; None if not measured."""
    if "smoothing" not in report:
        return None
    part = report["smoothing"]
    figure = new_figure(report, "certified accuracy by smoothing", 2.6)
    axes = figure.add_subplot()
    for key, color, name in (
        ("certified", BLUE, "certified (lower bound)"),
        ("attacked", VERMILION, "under PGD (upper bound)"),
    ):
        if part[key] is not None:
            radii = [point["radius"] for point in part[key]]
            values = np.array([100 * point["accuracy"] for point in part[key]])
            bounds = 100 * np.array([point["ci95"] for point in part[key]]).T
            axes.errorbar(
                radii, values, yerr=np.abs(bounds - values),
                color=color, marker="o", ms=4, lw=1.7, capsize=3, label=name,
            )  # fmt: skip
    axes.set_ylim(-3, 103)
    axes.set_xlabel(f"L2 radius (sigma = {format_number(part['sigma'])})")
    axes.set_ylabel(f"accuracy in %, n = {part['n']:,}")
    axes.grid(axis="y")
    axes.legend(loc="upper right", fontsize=8)
    return figure


def masking_figure(report: Report) -> Figure | None:
    """Draw accuracy under PGD against ε beside chance level; None if not measured."""
    if "masking" not in report:
        return None
    threats, chance = report["masking"]["threats"], 100 * report["masking"]["chance"]
    figure = new_figure(report, "checks for gradient masking", 2.4 * len(threats))
    panels = figure.subplots(len(threats), squeeze=False)[:, 0]
    for axes, threat in zip(panels, threats, strict=True):
        _draw_masking(axes, threat, chance)
    return figure


def _draw_masking(axes: Axes, threat: Mapping[str, Any], chance: float) -> None:
    # Evenly spaced, because the values of ε grow from small to the whole pixel range.
    places, points = range(len(threat["curve"])), threat["curve"]
    values = [100 * point["accuracy"] for point in points]
    reach = np.abs([[100 * b for b in point["ci95"]] for point in points] - np.c_[values]).T
    axes.errorbar(places, values, yerr=reach, color=BLUE, marker="o", ms=4, lw=1.7, capsize=3)
    axes.axhline(chance, color=VERMILION, ls="--", lw=1.2)
    axes.annotate(
        f"chance, {chance:.3g}%", (0, chance), (2, 3), textcoords="offset points",
        fontsize=8, color=VERMILION,
    )  # fmt: skip
    axes.set_xticks(places, [format_number(p["epsilon"]) for p in points])
    axes.set_xlim(-0.3, len(points) - 0.7)
    axes.set_ylim(-3, 103)
    axes.set_ylabel(f"accuracy in %, n = {points[0]['n']:,}")
    axes.set_xlabel(
        f"{threat['norm']} eps (the threat model's is {format_number(threat['epsilon'])})"
    )
    axes.grid(axis="y")
