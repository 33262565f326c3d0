"""Criteria of success: misclassification, or classification as a target."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from keras_srt.core.class_ids import check_class_ids
from keras_srt.core.errors import InvalidSettings


@dataclasses.dataclass(frozen=True)
class Criterion:
    """Condition under which a prediction is adversarial.

    Args:
        labels: Classes to avoid, int32 [n].
        targets: Classes to reach, int32 [n], or None to accept any class except `labels`.

    Example:
        >>> import numpy as np
        >>> Criterion(np.int32([3, 3])).is_adversarial(np.int32([3, 5]))
        array([False,  True])
        >>> Criterion(np.int32([3, 3]), np.int32([4, 5])).is_adversarial(np.int32([5, 5]))
        array([False,  True])
    """

    labels: np.ndarray
    targets: np.ndarray | None = None

    def is_adversarial(self, classes: np.ndarray) -> np.ndarray:
        """Whether each of these predicted classes is adversarial, bool [n]."""
        return classes != self.labels if self.targets is None else classes == self.targets

    @property
    def columns(self) -> list[np.ndarray]:
        """Labels and, if there are any, targets: int32 [n] each."""
        return self.checked_columns(None)

    def checked_columns(self, num_classes: int | None) -> list[np.ndarray]:
        """Return `columns`.

        Args:
            num_classes: Number of classes; None if it isn't known.

        Raises:
            InvalidSettings: A label or a target is no class id.
        """
        columns = [check_class_ids(self.labels, num_classes)]
        if self.targets is not None:
            columns.append(check_class_ids(self.targets, num_classes, "targets"))
        return columns

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> Criterion:
        targets = None if self.targets is None else self.targets[index]
        return Criterion(self.labels[index], targets)

    def repeated(self, times: int) -> Criterion:
        """Criterion of `times` copies of the images, one block after another."""
        targets = None if self.targets is None else np.tile(self.targets, times)
        return Criterion(np.tile(self.labels, times), targets)


def concatenate(criteria: Sequence[Criterion]) -> Criterion:
    """Join the criteria of several batches; either all of them have targets or none.

    Example:
        >>> concatenate([Criterion(np.int32([1])), Criterion(np.int32([2, 3]))]).labels
        array([1, 2, 3], dtype=int32)
    """
    targets = [criterion.targets for criterion in criteria if criterion.targets is not None]
    labels = np.concatenate([criterion.labels for criterion in criteria])
    return Criterion(labels, np.concatenate(targets) if targets else None)


def _random(labels: np.ndarray, logits: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    classes = logits.shape[1]
    return (labels + generator.integers(1, classes, len(labels))) % classes


def _least_likely(
    labels: np.ndarray, logits: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    return np.argmin(np.where(_is_label(labels, logits), np.inf, logits), axis=1)


def _next(labels: np.ndarray, logits: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return (labels + 1) % logits.shape[1]


def _is_label(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    return np.arange(logits.shape[1]) == labels[:, None]


_CHOICES: dict[str, Callable[..., np.ndarray]] = {
    "random": _random,
    "least_likely": _least_likely,
    "next": _next,
}


def _validate(target: Any) -> Any:
    whole = isinstance(target, int) and not isinstance(target, bool) and target >= 0
    if target is None or whole or target in _CHOICES:
        return target
    allowed = f"null, {', '.join(_CHOICES)} or a class id"
    raise PydanticCustomError("allowed", "{allowed}", {"allowed": allowed})


is_target = BeforeValidator(_validate)


def make_criterion(
    target: str | int | None,
    labels: np.ndarray,
    logits: np.ndarray,
    generator: np.random.Generator,
) -> Criterion:
    """Make the criterion for an attack's setting `target`.

    Args:
        target: None for an untargeted attack, "random" (a random other class), "next" (the class
            after the label), "least_likely" (the class of the smallest logit), or a class id.
        labels: Classes to avoid, int32 [n].
        logits: Logits of the clean images, float32 [n, classes].
        generator: Random numbers for "random".

    Returns:
        The criterion. Where the class id is the label itself, the next class is the target.

    Raises:
        InvalidSettings: The class id doesn't exist, or there is only one class.

    Example:
        >>> import numpy as np
        >>> logits = np.float32([[3, 1, 2], [0, 1, 2]])
        >>> generator = np.random.default_rng(0)
        >>> make_criterion("least_likely", np.int32([0, 2]), logits, generator).targets
        array([1, 0], dtype=int32)
    """
    if target is None:
        return Criterion(labels)
    classes = logits.shape[1]
    if classes < 2 or (isinstance(target, int) and target >= classes):
        raise InvalidSettings([f"target: got {target!r}; allowed: one of {classes} classes"])
    if isinstance(target, int):
        chosen = np.where(labels == target, (target + 1) % classes, target)
    else:
        chosen = _CHOICES[target](labels, logits, generator)
    return Criterion(labels, np.int32(chosen))
