"""Figure of the training: losses and validation accuracies by step."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from keras_srt.report.figure_style import BLUE, GREEN, INK, ORANGE, PURPLE, VERMILION, new_figure
from keras_srt.report.rows import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINES = (
    *((BLUE, "-"), (VERMILION, "--"), (GREEN, "-."), (PURPLE, ":")),
    *((ORANGE, (0, (5, 1, 1, 1, 1, 1))), (INK, (0, (1, 1)))),
)


def training_figure(report: Report, history: Mapping[str, np.ndarray]) -> Figure | None:
    """Draw losses and validation accuracies by step; None if the history has none.

    Args:
        report: Content of `report.json`.
        history: Columns of `history.csv`, as `read_history` returns them.
    """
    # The total loss comes first.
    names = sorted(history, key=lambda name: name != "loss")
    validated = [name for name in names if name.startswith("val_")]
    other = ["step", "epoch", "learning_rate", "seconds", "validations_waited", *validated]
    panels = {
        "loss": {name: history[name] for name in names if name not in other},
        "validation accuracy in %": {name: 100 * history[name] for name in validated},
    }
    panels = {label: curves for label, curves in panels.items() if curves}
    if not panels:
        return None
    figure = new_figure(report, "training", 2.6 * len(panels))
    grid = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, (label, curves) in zip(grid, panels.items(), strict=True):
        _draw_curves(axes, history["step"], curves, label)
        _mark_learning_rates(axes, history["step"], history["learning_rate"])
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=9)
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
    # On a linear scale, a large first loss would flatten the rest of the curve.
    if label == "loss" and shown.min() > 0 and shown.max() > 30 * shown.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
        label = "loss (log scale)"
    axes.set_ylabel(label)


def _mark_learning_rates(axes: Axes, steps: np.ndarray, rates: np.ndarray) -> None:
    """Draw a line at each learning-rate change, unless it changes continuously."""
    changes = np.flatnonzero(np.abs(np.diff(rates)) > 1e-9) + 1
    for index in changes if len(changes) <= 4 else ():
        label = "learning rate changes" if index == changes[0] else None
        axes.axvline(steps[index], color="#999999", ls=(0, (1, 2)), lw=1.2, zorder=0, label=label)
