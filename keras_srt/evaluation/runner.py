"""Run attacks on a classifier and verify that they stay inside their threat models."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from keras_srt.attacks import (
    Attack,
    AttackResult,
    AutoAttack,
    Criterion,
    MinimalNormAttack,
    QueryModel,
    make_criterion,
)
from keras_srt.attacks.autoattack import KeepResult
from keras_srt.attacks.target_model import Precision, classes_of
from keras_srt.core.class_ids import check_class_ids
from keras_srt.core.registry import settings_of
from keras_srt.core.tensorflow import tf
from keras_srt.evaluation.finished_parts import Arrays, FinishedParts
from keras_srt.evaluation.model_checks import (
    gradient_warnings,
    open_classifier,
    output_warnings,
    query_attack_warnings,
    randomness_warnings,
    range_warnings,
)
from keras_srt.evaluation.part_progress import Progress, report_part
from keras_srt.evaluation.robustness import AttackOutcome, Robustness
from keras_srt.neighborhoods import LpBall

logger = logging.getLogger(__name__)

# Results are float32 and the check is float64: a bound may be exceeded by this share.
_ROUNDING = 1e-5


def evaluate_robustness(
    classifier: Callable[[tf.Tensor], tf.Tensor] | QueryModel,
    images: np.ndarray,
    labels: np.ndarray,
    attacks: Sequence[Attack],
    *,
    batch_size: int = 500,
    seed: int = 0,
    progress: Progress | None = None,
    parts: FinishedParts | None = None,
    precision: Precision = "float32",
) -> Robustness:
    """Attack a classifier and record its predictions before and after each attack.

    Every attack tries to change the model's own prediction. For a correctly classified image
    this is the attack on the true label; for a misclassified image it measures R_rob.

    Probabilities are attacked by their logarithms, and Keras models that end with a softmax or
    sigmoids by the logits before them. Outputs that can't be logits, a model that expects another
    range of images, and gradients that vanish are logged as warnings.

    Args:
        classifier: A Keras model or a function, images in [0, 1] -> logits or probabilities. To
            attack a model without gradients, pass `QueryModel(predict)`.
        images: float32 in [0, 1], or uint8, [n, height, width, channels].
        labels: True classes, int [n].
        attacks: The attacks to run.
        batch_size: Images per query. A `TargetModel` or `QueryModel` has its own.
        seed: Seed of the attacks' random draws.
        progress: Called before the first batch, after each, and meanwhile as an attack reports;
            or None.
        parts: Keeps each attacked batch on disk, so that an interrupted evaluation continues
            there; None to keep nothing.
        precision: "auto" or "float32", see `TargetModel`, which has its own.

    Returns:
        Predicted classes and attacked images, image by image.

    Raises:
        UserError: An attack needs gradients and the classifier has none.
        ValueError: The images are empty, out of range, or differ in number from the labels, or a
            label is no class id.
        RuntimeError: An attack returned an image outside its threat model.

    Example:
        >>> import tensorflow as tf
        >>> from keras_srt.attacks import FGSM
        >>> mean_brightness = lambda x: tf.stack(
        ...     [0.5 + 0 * x[:, 0, 0, 0], tf.reduce_mean(x, [1, 2, 3])], axis=1)
        >>> images, labels = np.float32([[[[0.9]]], [[[0.55]]]]), [1, 1]
        >>> result = evaluate_robustness(mean_brightness, images, labels, [FGSM(epsilon=0.1)])
        >>> result.surviving("fgsm")
        array([ True, False])
    """
    images, labels = _check_images(images, labels)
    model, logits = open_classifier(classifier, images, batch_size, precision)
    clean = classes_of(logits)
    labels = check_class_ids(labels, logits.shape[1])
    warnings = [
        *output_warnings(logits),
        *randomness_warnings(model, images, logits),
        *range_warnings(model, images, labels, clean),
    ]
    outcomes = {
        name: _run_attack(model, images, clean, attack, seed, name, progress, parts)
        for name, attack in zip(_unique_names(attacks), attacks, strict=True)
    }
    result = Robustness(labels, clean, outcomes, precision=model.precision)
    for name, outcome in outcomes.items():
        warnings += gradient_warnings(name, outcome.gradients, outcome.vanished)
        warnings += query_attack_warnings(name, result.surviving_members(name))
    for text in warnings:
        logger.warning(text)
    return result._replace(warnings=tuple(warnings))


def _run_attack(
    model: QueryModel,
    images: np.ndarray,
    clean: np.ndarray,
    attack: Attack,
    seed: int,
    name: str,
    progress: Progress | None,
    parts: FinishedParts | None,
) -> AttackOutcome:
    """Run one attack on all images, batch by batch."""
    parts = parts or FinishedParts()
    gradients, vanished = model.gradients, model.vanished
    # NaN logits have no class to attack; class 0 stands in.
    labels = np.maximum(clean, 0)
    logits = model.logits(images) if attack.target is not None else np.zeros((len(images), 0))
    criterion = make_criterion(attack.target, labels, logits, np.random.default_rng(seed))
    batches: list[Arrays] = []
    if progress is not None:
        progress(name, 0, len(images))
    for first in range(0, len(images), model.batch_size):
        part = slice(first, min(first + model.batch_size, len(images)))
        settings = {"attack": settings_of(attack), "seed": seed, "size": model.batch_size}
        settings["first"] = first
        keep = partial(_keep_result, parts, name, settings, model)
        draw = tf.random.experimental.stateless_fold_in(tf.constant([seed, 0]), first)
        run = partial(_run_batch, model, images[part], attack, criterion[part], draw, keep)
        with report_part(progress, model, name, first, part.stop - first, len(images)):
            batches.append(parts.compute(name, settings, model, run))
    found = {key: [batch[key] for batch in batches] for key in batches[0]}
    seconds = sum(map(float, found.pop("seconds")))
    return AttackOutcome(
        attack,
        seconds=seconds,
        targets=criterion.targets,
        gradients=model.gradients - gradients,
        vanished=model.vanished - vanished,
        **{key: np.concatenate(arrays) for key, arrays in found.items()},
    )


def _run_batch(
    model: QueryModel,
    images: np.ndarray,
    attack: Attack,
    criterion: Criterion,
    draw: tf.Tensor,
    keep: KeepResult,
) -> Arrays:
    """Attack a batch; return arrays of an `AttackOutcome`."""
    found: Arrays = {}
    if isinstance(attack, AutoAttack):
        result, found["members"] = attack.run_members(model, images, criterion, draw, keep)
    else:
        result = attack.run(model, images, criterion, draw)
    check_inside(attack, images, result)
    found["images"] = result.images
    found["classes"] = model.predictions(result.images, criterion).classes
    if isinstance(attack, MinimalNormAttack):
        found["distances"] = _distances(attack, model, images, criterion, result)
    return found


def _keep_result(
    parts: FinishedParts,
    name: str,
    settings: Mapping[str, Any],
    model: QueryModel,
    member: str,
    attack: Callable[[], AttackResult],
) -> AttackResult:
    """Attack a batch by a member of an ensemble, or read the result of an earlier process."""

    def run() -> Arrays:
        result = attack()
        return {key: getattr(result, key) for key in ("images", "parameters", "success")}

    found = parts.compute(f"{name}-{member}", settings, model, run)
    return AttackResult(found["images"], found["parameters"], found["success"])


def _distances(
    attack: MinimalNormAttack,
    model: QueryModel,
    images: np.ndarray,
    criterion: Criterion,
    result: AttackResult,
) -> np.ndarray:
    """Measure distances to the nearest adversarial images independently of the attack."""
    norm = attack.ball.distance(np.subtract(result.nearest, images, dtype=np.float64))
    classes = model.predictions(result.nearest, criterion).classes
    return np.where(criterion.is_adversarial(classes), norm, np.inf)


def check_inside(attack: Attack, images: np.ndarray, result: AttackResult) -> None:
    """Check independently of the attack that its result is inside its threat model.

    Args:
        attack: The attack.
        images: Original images, float32 [n, height, width, channels].
        result: The attack's result.

    Raises:
        RuntimeError: An image is not T(x;θ), θ is out of range, or pixels leave [0, 1].
    """
    space, parameters = attack.neighborhood, result.parameters
    # The images themselves show an additive perturbation.
    if isinstance(space, LpBall):
        parameters = np.subtract(result.images, images, dtype=np.float64)
    outside = space.relative_size(parameters) > 1.0 + _ROUNDING
    again = space.apply(tf.constant(images), result.parameters).numpy()
    deviation = np.abs(np.subtract(result.images, again, dtype=np.float64)).max(initial=0.0)
    in_range = result.images.min(initial=0.0) >= 0 and result.images.max(initial=1.0) <= 1
    if not outside.any() and deviation <= 1e-5 and in_range:
        return
    raise RuntimeError(
        f"attack {attack.name!r} left its threat model for {int(outside.sum())} images "
        f"(largest deviation from T(x;θ): {deviation:.2g}); this is a defect of the attack"
    )


def _unique_names(attacks: Sequence[Attack]) -> list[str]:
    """Names of the attacks; repeated names get `@ε` and, if still repeated, a number."""
    names: list[str] = []
    for attack in attacks:
        repeated = sum(other.name == attack.name for other in attacks) > 1
        name = f"{attack.name}@{attack.radius:g}" if repeated and attack.radius else attack.name
        same = sum(other.partition("#")[0] == name for other in names)
        names.append(f"{name}#{same + 1}" if same else name)
    return names


def _check_images(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    images, labels = np.asarray(images), np.asarray(labels)
    pixels = np.float32(images / 255.0) if images.dtype == np.uint8 else np.float32(images)
    if pixels.ndim != 4 or not len(pixels) or labels.shape != (len(pixels),):
        raise ValueError(
            f"images: got shape {images.shape} with labels of shape {labels.shape}; allowed: "
            "[n, height, width, channels] with n > 0, and one class id for each image"
        )
    if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(
            f"images: got values from {pixels.min()} to {pixels.max()}; allowed: 0 to 1 "
            "(divide by 255, or give uint8)"
        )
    return pixels, check_class_ids(labels)
