"""Repeated runs of an attack, from other points or toward other classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from keras_srt.attacks.base import AttackResult
from keras_srt.attacks.batch_progress import BatchProgress

# (numbers of the runs [g], indices of the active images [m]) -> the results and losses of all g·m
# runs, those of the first number first.
Runs = Callable[[np.ndarray, np.ndarray], tuple[AttackResult, np.ndarray]]


def run_repeatedly(
    images: np.ndarray,
    run: Runs,
    count: int,
    max_together: int = 1,
    progress: BatchProgress | None = None,
) -> AttackResult:
    """Run an attack several times in a pixel ball; an image drops out after a success.

    Args:
        images: float32 [n, height, width, channels] in [0, 1].
        run: Makes some of the runs of the active images.
        count: Number of runs for each image.
        max_together: Number of runs to make at once: with few active images, several for each.
        progress: The progress of the attack; None to report none.

    Returns:
        For each image the first success or, without any, the result of the highest loss.
    """
    worst, highest = np.array(images), np.full(len(images), -np.inf, np.float32)
    success = np.zeros(len(images), bool)
    number, progress = 0, progress or BatchProgress()
    while number < count and not success.all():
        active = np.flatnonzero(~success)
        numbers = np.arange(count)[number:][: max(1, max_together // len(active))]
        with progress.part(number / count, (number + len(numbers)) / count):
            result, losses = run(numbers, active)
        for rows in np.split(np.arange(len(losses)), len(numbers)):
            found, loss = result.success[rows], losses[rows]
            better = ~success[active] & (found | (loss > highest[active]))
            worst[active[better]] = result.images[rows][better]
            highest[active[better]] = loss[better]
            success[active] |= found
        number += len(numbers)
    return AttackResult(worst, worst - images, success)


def of_same_images(rows: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Whether a run is of an image of which any run was chosen, bool [r].

    Args:
        rows: The index of the image of each run, int [r].
        chosen: bool [r].

    Example:
        >>> of_same_images(np.array([4, 7, 4, 7]), np.array([False, False, True, False]))
        array([ True, False,  True, False])
    """
    return np.isin(rows, rows[chosen])
