"""Heat maps of accuracies, with the numbers in the cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DARK = 60  # percent; below, white text is readable


def draw_heat_map(
    figure: Figure, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], count: int
) -> Axes:
    """Draw a heat map with a color bar.

    Args:
        figure: An empty figure.
        values: Accuracies in %, float [rows, columns].
        rows: Labels of the rows.
        columns: Labels of the columns.
        count: Number of images behind each cell.

    Returns:
        The axes, for labels of both directions.
    """
    axes = figure.add_subplot()
    image = axes.imshow(values, cmap="viridis", vmin=0, vmax=100, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        color = "white" if value < _DARK else "black"
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=color)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label(f"accuracy in %, n = {count:,}")
    bar.outline.set_visible(False)
    return axes
