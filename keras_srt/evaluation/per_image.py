"""What a model answered, image by image: kept with a report, for breakdowns and comparisons."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.evaluation.runner import Robustness, proportion

_ATTACK = "attack:"
# Of more classes than these a matrix would be too large to read; the mistakes are listed anyway.
_MATRIX_CLASSES = 20
_MISTAKES = 10


class Outcomes(NamedTuple):
    """Answers before and after each attack.

    Attributes:
        labels: int32 [n], true class ids.
        clean: int32 [n], answers to the untampered images; -1 where the model answered NaN.
        attacked: by name of the attack, int32 [n], answers to what it found.
    """

    labels: np.ndarray
    clean: np.ndarray
    attacked: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, robustness: Robustness) -> Outcomes:
        """Those of an evaluation, without its images."""
        attacked = {name: verdict.classes for name, verdict in robustness.verdicts.items()}
        return cls(robustness.labels, robustness.clean_classes, attacked)

    @property
    def right(self) -> np.ndarray:
        """Whether the untampered image is answered right: bool [n]."""
        return self.clean == self.labels

    def still_right(self, name: str) -> np.ndarray:
        """Whether an image is right before and after the attack: bool [n]."""
        return self.right & (self.attacked[name] == self.labels)

    def worst_answers(self) -> np.ndarray:
        """What the attacks together make of each image: int32 [n].

        An image that is wrong untampered keeps that answer. One that is right has the wrong
        answer of the strongest attack that fools it, else the right one; so the share that is
        right is the worst case.

        Example:
            >>> outcomes = Outcomes(
            ...     np.int32([0, 0, 0]), np.int32([0, 0, 2]),
            ...     {"weak": np.int32([1, 0, 0]), "strong": np.int32([2, 1, 0])})
            >>> outcomes.worst_answers()
            array([2, 1, 2], dtype=int32)
        """
        answers = np.array(self.clean)
        for name in self.strongest_first():
            fooled = (answers == self.labels) & (self.attacked[name] != self.labels)
            answers[fooled] = self.attacked[name][fooled]
        return answers

    def strongest_first(self) -> list[str]:
        """Names of the attacks; that which leaves the fewest images right comes first."""
        return sorted(self.attacked, key=lambda name: self.still_right(name).sum())

    def save(self, path: Path) -> None:
        """Writes an .npz file; a kill leaves the old file or the new one."""
        draft = path.with_name(f".{path.name}.draft")
        attacked = {f"{_ATTACK}{name}": answers for name, answers in self.attacked.items()}
        with draft.open("wb") as file:
            np.savez_compressed(file, labels=self.labels, clean=self.clean, **attacked)
        os.replace(draft, path)

    @classmethod
    def load(cls, path: Path) -> Outcomes:
        """Reads what `save` wrote.

        Raises:
            UserError: the file is missing, damaged, or something else.
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
    """SHA-256 of images and labels: whether two evaluations saw the same ones.

    Args:
        images: uint8 [n, height, width, channels].
        labels: class ids [n].

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


def describe_classes(outcomes: Outcomes, names: Sequence[str]) -> dict[str, Any]:
    """How each class does, and which classes are taken for which.

    Args:
        outcomes: of an evaluation.
        names: of the classes, in the order of their ids.

    Returns:
        The parts `classes`, `mistakes` and, of up to 20 classes, `confusion` of report.json;
        there, rows are true classes and columns answers.

    Example:
        >>> outcomes = Outcomes(np.int32([0, 1]), np.int32([0, 1]), {"a": np.int32([1, 1])})
        >>> parts = describe_classes(outcomes, ["cat", "dog"])
        >>> parts["confusion"]["worst_case"]
        [[0, 1], [0, 1]]
        >>> parts["mistakes"]["worst_case"]
        [{'label': 'cat', 'answer': 'dog', 'count': 1}]
    """
    answers = {"clean": outcomes.clean, "worst_case": outcomes.worst_answers()}
    classes = []
    for number, name in enumerate(names):
        own = outcomes.labels == number
        shares = {
            kind: proportion(got[own] == number) for kind, got in answers.items() if own.any()
        }
        classes.append({"name": name, "n": int(own.sum()), **shares})
    parts: dict[str, Any] = {
        "classes": classes,
        "mistakes": {kind: _mistakes(outcomes.labels, got, names) for kind, got in answers.items()},
    }
    if len(names) <= _MATRIX_CLASSES:
        parts["confusion"] = {
            kind: _matrix(outcomes.labels, got, len(names)) for kind, got in answers.items()
        }
    return parts


def _matrix(labels: np.ndarray, answers: np.ndarray, size: int) -> list[list[int]]:
    counts = np.zeros((size, size), int)
    known = answers >= 0  # NaN is no class
    np.add.at(counts, (labels[known], answers[known]), 1)
    return counts.tolist()


def _mistakes(labels: np.ndarray, answers: np.ndarray, names: Sequence[str]) -> list[dict]:
    """The most frequent pairs of a class and a wrong answer."""
    wrong = answers != labels
    pairs = Counter(zip(labels[wrong].tolist(), answers[wrong].tolist(), strict=True))
    # Of equally frequent ones the first class comes first.
    ordered = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))
    return [
        {"label": names[label], "answer": names[answer] if answer >= 0 else "NaN", "count": count}
        for (label, answer), count in ordered[:_MISTAKES]
    ]
