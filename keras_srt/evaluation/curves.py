"""Accuracy as a perturbation grows: against ε, against the angle, over rotation and translation.

The attacks of an evaluation say how a model does at one ε and in one range of transforms. These
curves say how it does around: inside the range, and beyond it. They take a few test images only,
since they cost many more queries for each.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_srt.attacks import Attack, Criterion, QueryModel, TargetModel
from keras_srt.core.tensorflow import tf
from keras_srt.evaluation.masking import Sample, Threat, threats_of
from keras_srt.evaluation.runner import Progress, proportion
from keras_srt.neighborhoods import Spatial
from keras_srt.neighborhoods.geometry import rotate_and_translate

_STEPS = 10
# ε of the curve, as shares of the evaluation's.
_SHARES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
# Where the evaluation has no such attack: outside what the model was trained for.
_EPSILON, _ROTATION, _TRANSLATION_SHARE = 8 / 255, 30.0, 0.1
_ROTATIONS, _MOST_SHIFTS = 13, 7


def accuracy_curves(
    target_model: TargetModel,
    images: np.ndarray,
    labels: np.ndarray,
    attacks: Sequence[Attack],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any] | None:
    """Measures the accuracy against ε, and over rotations and translations.

    For each image it costs at most 60 gradient passes for each ball and 91 forward passes. The
    curve against ε has none where the model shows no gradient.

    Args:
        target_model: the model.
        images: float32 [n, height, width, channels] in [0, 1], some test images.
        labels: int32 [n], true labels.
        attacks: of the evaluation, which say the ε and the range; where none does, ε is 8/255,
            and the range 30 degrees and a tenth of the image.
        seed: of the random draws.
        progress: told after each part, or None.

    Returns:
        The part `curves` of report.json; None without images.

    Raises:
        RuntimeError: an attack returned something outside its own threat model.

    Example:
        >>> images, model = np.zeros((0, 4, 4, 1)), TargetModel(lambda x: x)
        >>> accuracy_curves(model, images, np.zeros(0), []) is None
        True
    """
    if not len(images):
        return None
    began, asked = time.perf_counter(), target_model.queries
    threats = threats_of(attacks)
    covered = bool(threats)
    threats = [] if isinstance(target_model, QueryModel) else threats or [Threat("linf", _EPSILON)]
    right = target_model.answers(images, Criterion(labels)).classes == labels
    draws = tf.constant([seed, 2], tf.int32)
    balls = []
    for threat in threats:
        sample = Sample(target_model, images, labels, right, 0.0, threat, draws)
        balls.append({**epsilon_curve(sample), "in_evaluation": covered})
        if progress is not None:
            progress("curves", len(balls), len(threats) + 1)
    transforms = transform_map(target_model, images, labels, attacks)
    if progress is not None:
        progress("curves", len(threats) + 1, len(threats) + 1)
    return {
        "n": len(images),
        "num_steps": _STEPS,
        "epsilon": balls,
        "transforms": transforms,
        "queries": target_model.queries - asked,
        "seconds": round(time.perf_counter() - began, 2),
    }


def epsilon_curve(sample: Sample) -> dict[str, Any]:
    """Accuracy under PGD of 10 steps at several ε.

    What fools within a ball fools within each larger one, so that an image once fooled isn't
    attacked again, and the curve never rises.

    Args:
        sample: the model, the images, and the ball.

    Returns:
        `{"norm", "epsilon", "points": [{"epsilon", "accuracy", "ci95", "n"}, …]}`, from ε = 0 on.
    """
    norm, epsilon = sample.threat
    largest = 1.0 if norm == "linf" else math.sqrt(sample.images[0].size)
    surviving = sample.right
    points = [{"epsilon": 0.0, **proportion(surviving)}]
    for radius in sorted({min(share * epsilon, largest) for share in _SHARES}):
        surviving = sample.surviving(sample.pgd(radius, num_steps=_STEPS), surviving)
        points.append({"epsilon": radius, **proportion(surviving)})
    return {"norm": norm, "epsilon": epsilon, "points": points}


def transform_map(
    target_model: TargetModel, images: np.ndarray, labels: np.ndarray, attacks: Sequence[Attack]
) -> dict[str, Any]:
    """Accuracy under each of a grid of rotations and translations to the right.

    Args:
        target_model: the model.
        images: float32 [n, height, width, channels] in [0, 1].
        labels: int32 [n], true labels.
        attacks: of the evaluation, which say the range.

    Returns:
        `{"rotations": degrees, "shifts": pixels to the right, "accuracy": a row for each rotation,
        "angles": [{"angle", "accuracy", "ci95", "n"}, …], "in_evaluation"}`; the accuracy at an
        angle is that under the worst of the grid's rotations up to it, to either side.
    """
    rotation, translation, covered = _range_of(attacks, images.shape[1:3])
    rotations = np.linspace(-rotation, rotation, _ROTATIONS)
    count = min(_MOST_SHIFTS, 2 * math.ceil(translation) + 1)
    shifts = np.linspace(-translation, translation, count)
    right = np.empty((len(rotations), len(shifts), len(images)), bool)
    criterion = Criterion(labels)
    for row, angle in enumerate(rotations):
        for column, shift in enumerate(shifts):
            parameters = np.tile(np.float32([[angle, shift, 0.0]]), (len(images), 1))
            moved = rotate_and_translate(tf.constant(images), tf.constant(parameters)).numpy()
            right[row, column] = target_model.answers(moved, criterion).classes == labels
    middle, turned = len(rotations) // 2, right[:, len(shifts) // 2]
    angles = [
        {"angle": angle, **proportion(turned[middle - step : middle + step + 1].all(axis=0))}
        for step, angle in enumerate(rotations[middle:].tolist())
    ]
    return {
        "rotations": rotations.tolist(),
        "shifts": shifts.tolist(),
        "accuracy": right.mean(axis=2).tolist(),
        "angles": angles,
        "in_evaluation": covered,
    }


def _range_of(attacks: Sequence[Attack], size: Sequence[int]) -> tuple[float, float, bool]:
    """The largest rotation and translation of the attacks, and whether there is one."""
    stages = [stage for attack in attacks for stage in attack.neighborhood.stages_in_order]
    spatial = [stage for stage in stages if isinstance(stage, Spatial)]
    rotation = max((stage.max_rotation for stage in spatial), default=0.0)
    translation = max((stage.max_translation for stage in spatial), default=0.0)
    by_default = float(max(1, round(_TRANSLATION_SHARE * min(size))))
    return rotation or _ROTATION, translation or by_default, bool(spatial)
