"""Accuracy curves: against ε, against the angle, and over rotations and translations.

The attacks of an evaluation measure the accuracy at one ε and in one range of transforms; these
curves also measure it inside and outside of that range. They use few test images, because each
image costs many queries.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_srt.attacks import Attack, Criterion, QueryModel
from keras_srt.core.tensorflow import tf
from keras_srt.evaluation.intervals import proportion
from keras_srt.evaluation.part_progress import Progress, report_part
from keras_srt.evaluation.threats import Sample, Threat, threats_of
from keras_srt.neighborhoods import Spatial
from keras_srt.neighborhoods.geometry import rotate_and_translate

_STEPS = 10
# ε of the curve as shares of the evaluation's.
_SHARES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
# Ranges for kinds of perturbations that the evaluation has no attack for.
_EPSILON, _ROTATION, _TRANSLATION_SHARE = 8 / 255, 30.0, 0.1
_ROTATIONS, _MOST_SHIFTS = 13, 7


def accuracy_curves(
    model: QueryModel,
    images: np.ndarray,
    labels: np.ndarray,
    attacks: Sequence[Attack],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any] | None:
    """Measure the accuracy against ε, and over rotations and translations.

    The cost for each image is at most 60 gradient passes for each ball and 91 forward passes. A
    model without gradients gets no curve against ε.

    Args:
        model: The model under attack.
        images: Some test images, float32 [n, height, width, channels] in [0, 1].
        labels: True classes, int32 [n].
        attacks: Attacks of the evaluation, which define ε and the range of transforms. The
            defaults are 8/255, 30 degrees and a tenth of the image.
        seed: Seed of the random draws.
        progress: Called before the first and after each part, or None.

    Returns:
        The section `curves` of report.json; None without images.

    Raises:
        RuntimeError: An attack returned an image outside its threat model.

    Example:
        >>> images, model = np.zeros((0, 4, 4, 1)), QueryModel(lambda x: x)
        >>> accuracy_curves(model, images, np.zeros(0), []) is None
        True
    """
    if not len(images):
        return None
    began, queries = time.perf_counter(), model.queries
    threats = threats_of(attacks)
    covered = bool(threats)
    threats = (threats or [Threat("linf", _EPSILON)]) if model.has_gradients else []
    correct = model.predictions(images, Criterion(labels)).classes == labels
    draws = tf.constant([seed, 2], tf.int32)
    balls: list[dict[str, Any]] = []
    total = len(threats) + 1
    if progress is not None:
        progress("curves", 0, total)
    for number, threat in enumerate(threats):
        sample = Sample(model, images, labels, correct, 0.0, threat, draws)
        with report_part(progress, model, "curves", number, 1, total):
            balls.append({**epsilon_curve(sample), "in_evaluation": covered})
    with report_part(progress, model, "curves", len(threats), 1, total):
        transforms = transform_map(model, images, labels, attacks)
    return {
        "n": len(images),
        "num_steps": _STEPS,
        "epsilon": balls,
        "transforms": transforms,
        "queries": model.queries - queries,
        "seconds": round(time.perf_counter() - began, 2),
    }


def epsilon_curve(sample: Sample) -> dict[str, Any]:
    """Measure the accuracy under PGD of 10 steps at several ε.

    An adversarial image in a ball is in every larger ball, so that images drop out after a
    success and the curve never rises.

    Args:
        sample: The model, the images and the ball.

    Returns:
        `{"norm", "epsilon", "points": [{"epsilon", "accuracy", "ci95", "n"}, …]}`, from ε = 0 on.
    """
    norm, epsilon = sample.threat
    surviving = sample.correct
    points = [{"epsilon": 0.0, **proportion(surviving)}]
    radii = sorted({min(share * epsilon, sample.largest_radius) for share in _SHARES})
    for radius in sample.model.progress.each(radii):
        surviving = sample.surviving(sample.pgd(radius, num_steps=_STEPS), surviving)
        points.append({"epsilon": radius, **proportion(surviving)})
    return {"norm": norm, "epsilon": epsilon, "points": points}


def transform_map(
    model: QueryModel, images: np.ndarray, labels: np.ndarray, attacks: Sequence[Attack]
) -> dict[str, Any]:
    """Measure the accuracy under a grid of rotations and translations to the right.

    Args:
        model: The model.
        images: float32 [n, height, width, channels] in [0, 1].
        labels: True classes, int32 [n].
        attacks: Attacks of the evaluation, which define the range.

    Returns:
        `{"rotations": degrees, "shifts": pixels to the right, "accuracy": a row for each rotation,
        "angles": [{"angle", "accuracy", "ci95", "n"}, …], "in_evaluation"}`. The accuracy at an
        angle is the accuracy under the worst of the grid's rotations up to that angle, to either
        side.
    """
    rotation, translation, covered = _range_of(attacks, images.shape[1:3])
    rotations = np.linspace(-rotation, rotation, _ROTATIONS)
    count = min(_MOST_SHIFTS, 2 * math.ceil(translation) + 1)
    shifts = np.linspace(-translation, translation, count)
    correct = np.empty((len(rotations), len(shifts), len(images)), bool)
    criterion = Criterion(labels)
    for row, angle in enumerate(model.progress.each(list(rotations))):
        for column, shift in enumerate(shifts):
            parameters = np.tile(np.float32([[angle, shift, 0.0]]), (len(images), 1))
            moved = rotate_and_translate(tf.constant(images), tf.constant(parameters)).numpy()
            correct[row, column] = model.predictions(moved, criterion).classes == labels
    middle, rotated = len(rotations) // 2, correct[:, len(shifts) // 2]
    angles = [
        {"angle": angle, **proportion(rotated[middle - step : middle + step + 1].all(axis=0))}
        for step, angle in enumerate(rotations[middle:].tolist())
    ]
    return {
        "rotations": rotations.tolist(),
        "shifts": shifts.tolist(),
        "accuracy": correct.mean(axis=2).tolist(),
        "angles": angles,
        "in_evaluation": covered,
    }


def _range_of(attacks: Sequence[Attack], size: Sequence[int]) -> tuple[float, float, bool]:
    """Largest rotation and translation of the attacks, and whether there are any."""
    stages = [stage for attack in attacks for stage in attack.neighborhood.stages_in_order]
    spatial = [stage for stage in stages if isinstance(stage, Spatial)]
    rotation = max((stage.max_rotation for stage in spatial), default=0.0)
    translation = max((stage.max_translation for stage in spatial), default=0.0)
    by_default = float(max(1, round(_TRANSLATION_SHARE * min(size))))
    return rotation or _ROTATION, translation or by_default, bool(spatial)
