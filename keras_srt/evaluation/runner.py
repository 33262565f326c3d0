"""How well a classifier stays right under attacks, with intervals and the worst case."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_srt.attacks import (
    Attack,
    AttackResult,
    Criterion,
    MinimalNormAttack,
    TargetModel,
    make_criterion,
)
from keras_srt.core.registry import settings_of
from keras_srt.core.tensorflow import tf

# (attack name, images done, images in all)
Progress = Callable[[str, int, int], None]

# Above its bound by this share is rounding: results are float32, the check is float64.
_ROUNDING = 1e-5


class AttackOutcome(NamedTuple):
    """What an attack did to each image.

    Attributes:
        attack: the attack.
        images: float32 [n, height, width, channels], what it found.
        classes: int32 [n], the model's answers to `images`.
        seconds: how long it took.
        targets: int32 [n], the answers that a targeted attack was to reach, or None.
        distances: float64 [n], of attacks that look for the smallest perturbation: its
            length, 0 where nothing had to be changed, infinite where none was found; or None.
    """

    attack: Attack
    images: np.ndarray
    classes: np.ndarray
    seconds: float
    targets: np.ndarray | None = None
    distances: np.ndarray | None = None


class Risks(NamedTuple):
    """The three risks of an image or, as means, of a dataset (Li et al. 2022, section 2).

    R_adv(x) = R_stand(x) + (1 - R_stand(x))·R_rob(x)                              (eq. 6)

    Attributes:
        standard: R_stand, the answer to the untampered image is wrong.
        robust: R_rob, an attack changes the model's own answer.
        adversarial: R_adv, the answer is wrong before or after an attack.
    """

    standard: np.ndarray
    robust: np.ndarray
    adversarial: np.ndarray


class Robustness(NamedTuple):
    """The outcome of an evaluation.

    Attributes:
        labels: int32 [n], true labels.
        clean_classes: int32 [n], answers to the untampered images.
        verdicts: the attacks by name.
    """

    labels: np.ndarray
    clean_classes: np.ndarray
    verdicts: Mapping[str, AttackOutcome]

    @property
    def right(self) -> np.ndarray:
        """Whether the untampered image is answered right: bool [n]."""
        return self.clean_classes == self.labels

    def still_right(self, name: str) -> np.ndarray:
        """Whether an image is right before and after the attack: bool [n]."""
        return self.right & (self.verdicts[name].classes == self.labels)

    def worst_case(self) -> np.ndarray:
        """Whether an image is right before and after every attack: bool [n]."""
        still = [self.still_right(name) for name in self.verdicts]
        return np.logical_and.reduce([self.right, *still])

    def risks(self) -> Risks:
        """The three risks of each image, over all attacks together: float64 [n] each."""
        after = [verdict.classes for verdict in self.verdicts.values()]
        changed = [classes != self.clean_classes for classes in after]
        wrong = [classes != self.labels for classes in after]
        standard = ~self.right
        nothing = np.zeros(len(self.labels), bool)
        return Risks(
            standard=standard.astype(np.float64),
            robust=np.logical_or.reduce([nothing, *changed]).astype(np.float64),
            adversarial=np.logical_or.reduce([standard, *wrong]).astype(np.float64),
        )

    def report(self) -> dict[str, Any]:
        """The results as the parts `clean`, `attacks`, `worst_case` and `risks` of report.json."""
        attacks = []
        for name, verdict in self.verdicts.items():
            settings = settings_of(verdict.attack)
            attacks.append(
                {
                    "name": name,
                    "norm": verdict.attack.norm,
                    "epsilon": verdict.attack.radius,
                    "settings": {k: v for k, v in settings.items() if k != "name"},
                    **proportion(self.still_right(name)),
                    "seconds": round(verdict.seconds, 2),
                    **self._beside(verdict),
                }
            )
        risks = self.risks()
        return {
            "clean": proportion(self.right),
            "attacks": attacks,
            "worst_case": {**proportion(self.worst_case()), "attacks": list(self.verdicts)},
            "risks": {name: float(np.mean(getattr(risks, name))) for name in risks._fields},
        }

    def _beside(self, verdict: AttackOutcome) -> dict[str, Any]:
        """What the report says of targeted attacks, and of the smallest perturbations."""
        beside: dict[str, Any] = {}
        if verdict.targets is not None:
            beside["target_reached"] = float(np.mean(verdict.classes == verdict.targets))
        attack, distances = verdict.attack, verdict.distances
        if isinstance(attack, MinimalNormAttack) and distances is not None:
            beside["distance"] = distance_summary(attack, distances, self.right)
        return beside


def distance_summary(
    attack: MinimalNormAttack, distances: np.ndarray, right: np.ndarray
) -> dict[str, Any]:
    """Distances of the images that the model answers right, and its accuracy at each radius.

    Args:
        attack: whose `epsilon` and `epsilons` are the radii.
        distances: float64 [n], infinite where no perturbation was found.
        right: bool [n], whether the untampered image is answered right.

    Returns:
        `{"norm", "mean", "median", "found", "accuracy_at": [{"epsilon", "accuracy", …}]}`: the
        mean is over those found, the median over all (null where it is infinite).
    """
    of_right = distances[right]
    found = of_right[np.isfinite(of_right)]
    median = float(np.median(of_right)) if len(of_right) else np.inf
    radii = sorted({attack.epsilon, *attack.epsilons})
    return {
        "norm": attack.ball.name,
        "mean": float(np.mean(found)) if len(found) else None,
        "median": median if np.isfinite(median) else None,
        "found": len(found),
        "accuracy_at": [
            {"epsilon": radius, **proportion(right & ~(distances <= radius))} for radius in radii
        ],
    }


def proportion(right: np.ndarray) -> dict[str, Any]:
    """A share of images with its 95% Wilson interval.

    Args:
        right: bool [n].

    Returns:
        `{"accuracy": share, "ci95": [low, high], "n": n}`.

    Example:
        >>> proportion(np.array([True, True, False, True]))["accuracy"]
        0.75
    """
    from scipy.stats import binomtest

    interval = binomtest(int(right.sum()), len(right)).proportion_ci(0.95, method="wilson")
    return {
        "accuracy": float(np.mean(right)),
        "ci95": [float(interval.low), float(interval.high)],
        "n": len(right),
    }


def evaluate_robustness(
    classifier: Callable[[tf.Tensor], tf.Tensor] | TargetModel,
    images: np.ndarray,
    labels: np.ndarray,
    attacks: Sequence[Attack],
    *,
    batch_size: int = 500,
    seed: int = 0,
    progress: Progress | None = None,
) -> Robustness:
    """Attacks a classifier and counts what it still answers right.

    Every attack tries to change the model's own answer: for an image that is right this
    is the attack on the true label, and for one that is wrong it gives R_rob.

    Args:
        classifier: a Keras model or a function, images in [0, 1] -> logits; or a `TargetModel`, as
            `QueryModel(function)` for what is known by its answers alone.
        images: float32 in [0, 1], or uint8, [n, height, width, channels].
        labels: class ids [n].
        attacks: what to attack with.
        batch_size: images attacked at once; a `TargetModel` has its own.
        seed: of the attacks' random draws.
        progress: told after each batch, or None.

    Returns:
        Answers before and after each attack, image by image.

    Raises:
        UserError: an attack needs gradients, and the classifier has none.
        ValueError: the images are empty, out of range, or not as many as the labels.
        RuntimeError: an attack returned something outside its own threat model.

    Example:
        >>> import tensorflow as tf
        >>> from keras_srt.attacks import FGSM
        >>> mean_brightness = lambda x: tf.stack(
        ...     [0.5 + 0 * x[:, 0, 0, 0], tf.reduce_mean(x, [1, 2, 3])], axis=1)
        >>> images, labels = np.float32([[[[0.9]]], [[[0.55]]]]), [1, 1]
        >>> outcome = evaluate_robustness(mean_brightness, images, labels, [FGSM(epsilon=0.1)])
        >>> outcome.still_right("fgsm")
        array([ True, False])
    """
    pixels, classes = _check_images(images, labels)
    target_model = (
        classifier if isinstance(classifier, TargetModel) else TargetModel(classifier, batch_size)
    )
    return attack_target_model(target_model, pixels, classes, attacks, seed=seed, progress=progress)


def attack_target_model(
    target_model: TargetModel,
    images: np.ndarray,
    labels: np.ndarray,
    attacks: Sequence[Attack],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Robustness:
    """As `evaluate_robustness`, for a model that is known by its answers alone, too.

    Args:
        target_model: the model, with its batch size.
        images: float32 [n, height, width, channels] in [0, 1].
        labels: int32 [n].
        attacks: what to attack with.
        seed: of the attacks' random draws.
        progress: told after each batch, or None.

    Returns:
        Answers before and after each attack, image by image.

    Raises:
        RuntimeError: an attack returned something outside its own threat model.
    """
    clean = target_model.answers(images, Criterion(labels)).classes
    verdicts = {
        name: _attack(target_model, images, clean, attack, seed, name, progress)
        for name, attack in zip(_names(attacks), attacks, strict=True)
    }
    return Robustness(labels, clean, verdicts)


def _attack(
    target_model: TargetModel,
    images: np.ndarray,
    clean: np.ndarray,
    attack: Attack,
    seed: int,
    name: str,
    progress: Progress | None,
) -> AttackOutcome:
    """One attack on all images, batch by batch."""
    began = time.perf_counter()
    # A model that answered NaN has no class to attack: class 0 stands in.
    answered = np.maximum(clean, 0)
    logits = (
        target_model.logits(images) if attack.target is not None else np.zeros((len(images), 0))
    )
    criterion = make_criterion(attack.target, answered, logits, np.random.default_rng(seed))
    found_images, after = np.empty_like(images), np.empty_like(clean)
    distances = np.empty(len(images)) if isinstance(attack, MinimalNormAttack) else None
    for first in range(0, len(images), target_model.batch_size):
        part = slice(first, first + target_model.batch_size)
        draw = tf.random.experimental.stateless_fold_in(tf.constant([seed, 0]), first)
        found = attack.run(target_model, images[part], criterion[part], draw)
        check_inside(attack, images[part], found)
        found_images[part] = found.images
        after[part] = target_model.answers(found.images, criterion[part]).classes
        if isinstance(attack, MinimalNormAttack) and distances is not None:
            distances[part] = _distances(attack, target_model, images[part], criterion[part], found)
        if progress is not None:
            progress(name, min(first + target_model.batch_size, len(images)), len(images))
    seconds = time.perf_counter() - began
    return AttackOutcome(attack, found_images, after, seconds, criterion.targets, distances)


def _distances(
    attack: MinimalNormAttack,
    target_model: TargetModel,
    images: np.ndarray,
    criterion: Criterion,
    found: AttackResult,
) -> np.ndarray:
    """How far the nearest fooling images are, measured outside the attack: float64 [n]."""
    length = attack.ball.distance(np.subtract(found.nearest, images, dtype=np.float64))
    fools = criterion.is_adversarial(target_model.answers(found.nearest, criterion).classes)
    return np.where(fools, length, np.inf)


def check_inside(attack: Attack, images: np.ndarray, found: AttackResult) -> None:
    """Checks, outside the attack's own code, that what it found is in its threat model.

    Args:
        attack: the attack.
        images: float32 [n, height, width, channels], what it started from.
        found: what it returned.

    Raises:
        RuntimeError: an image is not T(x;θ), θ is out of range, or pixels leave [0, 1].
    """
    space, parameters = attack.neighborhood, found.parameters
    # Of a pixel perturbation the images tell r themselves.
    if space.kind == "pixel":
        parameters = np.subtract(found.images, images, dtype=np.float64)
    outside = space.relative_size(parameters) > 1.0 + _ROUNDING
    again = space.apply(tf.constant(images), found.parameters).numpy()
    off = np.abs(np.subtract(found.images, again, dtype=np.float64)).max(initial=0.0)
    in_range = found.images.min(initial=0.0) >= 0 and found.images.max(initial=1.0) <= 1
    if not outside.any() and off <= 1e-5 and in_range:
        return
    raise RuntimeError(
        f"attack {attack.name!r} left its threat model for {int(outside.sum())} images "
        f"(largest deviation from T(x;θ): {off:.2g}); this is a defect of the attack"
    )


def _names(attacks: Sequence[Attack]) -> list[str]:
    """The attacks' names, with `@ε` (and a number) where one comes up again."""
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
    return pixels, np.int32(labels)
