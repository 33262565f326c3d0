"""Figure of attacked images: before, after, the difference, and both predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from keras_srt.core.formatting import format_number, shorten
from keras_srt.report.figure_style import GREEN, GREY, VERMILION, new_figure
from keras_srt.report.rows import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Examples(NamedTuple):
    """Images before and after attacks.

    Attributes:
        images: Clean images, float32 [n, height, width, channels] in [0, 1].
        perturbed: Perturbed images, of the same shape.
        labels: True class ids, int [n].
        before: Class ids that the model predicts for `images`, int [n].
        after: Class ids that the model predicts for `perturbed`, int [n].
        attacks: Name of the attack on each image.
    """

    images: np.ndarray
    perturbed: np.ndarray
    labels: np.ndarray
    before: np.ndarray
    after: np.ndarray
    attacks: Sequence[str]

    def part(self, first: int, count: int) -> Examples:
        """Return `count` examples, starting with number `first`."""
        return Examples(*(column[first : first + count] for column in self))


def examples_figure(
    report: Report, examples: Examples, class_names: Sequence[str]
) -> Figure | None:
    """Draw x, x' and their difference, one row per image; None without images."""
    count = len(examples.images)
    if count == 0:
        return None
    figure = new_figure(report, "images before and after attacks", 0.5 + 1.62 * count)
    grid = figure.subplots(count, 3, squeeze=False)
    for index in range(count):
        _draw_example(grid[index], examples, index, class_names)
    figure.supxlabel(
        "Left: image; middle: after the attack; with the model's predictions.\n"
        "Right: difference; gray = 0, black and white = the value above the image.",
        fontsize=8,
        color=GREY,
    )
    return figure


def _draw_example(
    cells: Sequence[Axes], examples: Examples, index: int, names: Sequence[str]
) -> None:
    before, after = examples.images[index], examples.perturbed[index]
    # Each image has its own scale: a shift may change a pixel by 1, noise by at most ε.
    largest = float(np.abs(after - before).max())
    difference = 0.5 + (after - before) / (2 * max(largest, 1e-6))
    for axes, image in zip(cells, (before, after, difference), strict=True):
        # Three channels are shown as colors; for any other number, the mean is shown.
        shown = image if image.shape[-1] == 3 else image.mean(axis=-1)
        shown = np.clip(shown, 0, 1)
        axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_axis_off()
    label = int(examples.labels[index])
    predictions = (int(examples.before[index]), int(examples.after[index]))
    for axes, prediction, arrow in zip(
        cells, predictions, ("", "\N{RIGHTWARDS ARROW} "), strict=False
    ):
        correct = prediction == label
        # Signs besides colors, for color-blind readers.
        sign = "\N{CHECK MARK}" if correct else "\N{BALLOT X}"
        text = f"{arrow}{_class_name(prediction, names)} {sign}"
        axes.set_title(text, fontsize=9, color=GREEN if correct else VERMILION)
    lines = [f"{shorten(examples.attacks[index], 16)}: \N{PLUS-MINUS SIGN}{format_number(largest)}"]
    if predictions[0] != label:
        lines.append(f"true: {_class_name(label, names)}")
    cells[2].set_title("\n".join(lines), fontsize=9, color=GREY)


def _class_name(number: int, names: Sequence[str]) -> str:
    # Class -1 means that the model output NaN.
    return shorten(names[number], 14) if 0 <= number < len(names) else str(number)
