"""Predicted classes of each image, stored beside a report for breakdowns and comparisons."""

from __future__ import annotations

import hashlib
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.core.files import write_arrays
from keras_srt.evaluation.intervals import proportion
from keras_srt.evaluation.robustness import Robustness

_ATTACK = "attack:"
# A confusion matrix of more classes would be unreadable; the mistakes are listed anyway.
_MATRIX_CLASSES = 20
_MISTAKES = 10


class ImagePredictions(NamedTuple):
    """Predicted classes before and after each attack.

    Attributes:
        labels: True classes, int32 [n].
        clean: Predicted classes of the clean images, int32 [n]; -1 for NaN logits.
        attacked: Predicted classes of the attacked images, int32 [n], by name of the attack.
    """

    labels: np.ndarray
    clean: np.ndarray
    attacked: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, robustness: Robustness) -> ImagePredictions:
        """Predictions of an evaluation."""
        attacked = {name: outcome.classes for name, outcome in robustness.outcomes.items()}
        return cls(robustness.labels, robustness.clean_classes, attacked)

    @property
    def correct(self) -> np.ndarray:
        """Whether each clean image is correctly classified, bool [n]."""
        return self.clean == self.labels

    def surviving(self, name: str) -> np.ndarray:
        """Whether each image is correctly classified before and after an attack, bool [n]."""
        return self.correct & (self.attacked[name] == self.labels)

    def worst_case(self) -> np.ndarray:
        """Predicted classes in the worst case over all attacks, int32 [n].

        A misclassified clean image keeps its class. Any other image has the wrong class of the
        strongest attack that succeeds, or else the correct class.

        Example:
            >>> predictions = ImagePredictions(
            ...     np.int32([0, 0, 0]), np.int32([0, 0, 2]),
            ...     {"weak": np.int32([1, 0, 0]), "strong": np.int32([2, 1, 0])})
            >>> predictions.worst_case()
            array([2, 1, 2], dtype=int32)
        """
        classes = np.array(self.clean)
        for name in self.strongest_first():
            falls = (classes == self.labels) & (self.attacked[name] != self.labels)
            classes[falls] = self.attacked[name][falls]
        return classes

    def strongest_first(self) -> list[str]:
        """Names of the attacks, in ascending order of the number of surviving images."""
        return sorted(self.attacked, key=lambda name: self.surviving(name).sum())

    def save(self, path: Path) -> None:
        """Write an .npz file atomically."""
        attacked = {f"{_ATTACK}{name}": classes for name, classes in self.attacked.items()}
        write_arrays(path, labels=self.labels, clean=self.clean, **attacked)

    @classmethod
    def load(cls, path: Path) -> ImagePredictions:
        """Read a file that `save` wrote.

        Raises:
            UserError: The file is missing or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                columns = {name: _whole_numbers(arrays[name]) for name in arrays.files}
            labels, clean = columns.pop("labels"), columns.pop("clean")
            attacked = {name.removeprefix(_ATTACK): column for name, column in columns.items()}
            if any(len(column) != len(labels) for column in (clean, *attacked.values())):
                raise ValueError("columns differ in length")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{path}: can't be read ({error}); allowed: the outcomes.npz of an evaluation"
            ) from error
        return cls(labels, clean, attacked)


def _whole_numbers(column: np.ndarray) -> np.ndarray:
    if column.ndim != 1 or column.dtype.kind not in "iu":
        raise ValueError(f"got {column.dtype} {list(column.shape)} instead of whole numbers [n]")
    return np.int32(column)


def fingerprint(images: np.ndarray, labels: np.ndarray) -> str:
    """SHA-256 of images and labels; equal if two evaluations used the same.

    Args:
        images: uint8 [n, height, width, channels].
        labels: Class ids [n].

    Returns:
        64 hexadecimal digits.

    Example:
        >>> fingerprint(np.zeros((1, 2, 2, 1), np.uint8), np.int64([1]))[:8]
        'c78a4acb'
    """
    digest = hashlib.sha256(repr(images.shape).encode())
    digest.update(np.ascontiguousarray(images))
    digest.update(np.ascontiguousarray(labels, "<i4"))
    return digest.hexdigest()


def describe_classes(predictions: ImagePredictions, names: Sequence[str]) -> dict[str, Any]:
    """Break down the accuracy by class, and count which classes are confused.

    Args:
        predictions: Predictions of an evaluation.
        names: Class names in the order of their ids.

    Returns:
        The sections `classes`, `balanced` (the mean accuracy of the classes), `worst_class`,
        `mistakes` and, for up to 20 classes, `confusion` of report.json.
        The rows of a confusion matrix are true classes, its columns predicted classes.

    Example:
        >>> labels = np.int32([0, 1])
        >>> predictions = ImagePredictions(labels, labels, {"a": np.int32([1, 1])})
        >>> parts = describe_classes(predictions, ["cat", "dog"])
        >>> parts["confusion"]["worst_case"]
        [[0, 1], [0, 1]]
        >>> parts["mistakes"]["worst_case"]
        [{'label': 'cat', 'answer': 'dog', 'count': 1}]
    """
    predicted = {"clean": predictions.clean, "worst_case": predictions.worst_case()}
    classes: list[dict[str, Any]] = []
    for number, name in enumerate(names):
        own = predictions.labels == number
        shares = {
            kind: proportion(got[own] == number) for kind, got in predicted.items() if own.any()
        }
        classes.append({"name": name, "n": int(own.sum()), **shares})
    known = [each for each in classes if each["n"]]
    worst = {kind: min(known, key=lambda each: each[kind]["accuracy"]) for kind in predicted}
    parts: dict[str, Any] = {
        "classes": classes,
        "balanced": {
            kind: float(np.mean([each[kind]["accuracy"] for each in known])) for kind in predicted
        },
        "worst_class": {
            kind: {"name": each["name"], "accuracy": each[kind]["accuracy"], "n": each["n"]}
            for kind, each in worst.items()
        },
        "mistakes": {
            kind: _mistakes(predictions.labels, got, names) for kind, got in predicted.items()
        },
    }
    if len(names) <= _MATRIX_CLASSES:
        parts["confusion"] = {
            kind: _matrix(predictions.labels, got, len(names)) for kind, got in predicted.items()
        }
    return parts


def _matrix(labels: np.ndarray, predicted: np.ndarray, size: int) -> list[list[int]]:
    counts = np.zeros((size, size), int)
    valid = predicted >= 0  # NaN is no class
    np.add.at(counts, (labels[valid], predicted[valid]), 1)
    return counts.tolist()


def _mistakes(labels: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> list[dict]:
    """Most frequent pairs of a true class and a wrong prediction."""
    wrong = predicted != labels
    pairs = Counter(zip(labels[wrong].tolist(), predicted[wrong].tolist(), strict=True))
    # Equally frequent pairs are in the order of the classes.
    ordered = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))
    return [
        {"label": names[label], "answer": names[got] if got >= 0 else "NaN", "count": count}
        for (label, got), count in ordered[:_MISTAKES]
    ]
