"""Accuracy on corrupted images: damage that happens without an attacker."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from keras_srt.attacks import Criterion, QueryModel
from keras_srt.corruptions import SEVERITIES, corruptions_for
from keras_srt.evaluation.intervals import mean_share, proportion
from keras_srt.evaluation.part_progress import Progress


def accuracy_on_corruptions(
    model: QueryModel,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any] | None:
    """Measure the accuracy under each corruption at each severity.

    The mean is over all corruptions and severities, as in RobustBench. The cost is 70 forward
    passes for each gray image and 95 for each color image.

    Args:
        model: The model.
        images: Test images, float32 [n, height, width, channels] in [0, 1], multiples of 1/255.
        labels: True classes, int32 [n].
        seed: Seed of the corruptions' random draws.
        progress: Called before the first and after each part, or None.

    Returns:
        The section `corruptions` of report.json: `{"n", "accuracy", "ci95", "corruptions":
        [{"name", "accuracy", "severities": [{"severity", "strength", "accuracy", "ci95", "n"}]}],
        "correct_counts", "queries", "seconds"}`, where `correct_counts` has the number of correct
        predictions of each image. None without images.

    Example:
        >>> images, model = np.zeros((0, 4, 4, 1)), QueryModel(lambda x: x)
        >>> accuracy_on_corruptions(model, images, np.zeros(0)) is None
        True

    Source: Hendrycks and Dietterich, ICLR 2019; Croce et al., RobustBench, 2021.
    """
    if not len(images):
        return None
    began, queries = time.perf_counter(), model.queries
    clean, criterion = np.uint8(np.round(255 * images)), Criterion(labels)
    corruptions, side = corruptions_for(images.shape[3]), min(images.shape[1:3])
    total, counts = len(corruptions) * len(SEVERITIES), np.zeros(len(images), int)
    if progress is not None:
        progress("corruptions", 0, total)
    parts: list[dict[str, Any]] = []
    for corruption in corruptions:
        severities = []
        for severity in SEVERITIES:
            corrupted = np.float32(corruption.apply(clean, severity, seed=seed) / 255.0)
            correct = model.predictions(corrupted, criterion).classes == labels
            counts += correct
            about = {"severity": severity, "strength": corruption.strength(severity, side)}
            severities.append({**about, **proportion(correct)})
            if progress is not None:
                done = len(parts) * len(SEVERITIES) + len(severities)
                progress("corruptions", done, total)
        accuracy = float(np.mean([each["accuracy"] for each in severities]))
        parts.append({"name": corruption.name, "accuracy": accuracy, "severities": severities})
    return {
        **mean_share(counts / total),
        "corruptions": parts,
        "correct_counts": counts.tolist(),
        "queries": model.queries - queries,
        "seconds": round(time.perf_counter() - began, 2),
    }
