"""Predictions of candidates, the perturbed images that a search tries, in float32 or bfloat16."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from typing_extensions import override

from keras_srt.attacks.attack_losses import evaluate_loss, log_odds, margin
from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.rounding import RoundingError
from keras_srt.attacks.target_model import QueryModel, TargetModel, classes_of

# Numbers of candidates and of images, int [m] each -> float32 [m, height, width, channels].
Perturb = Callable[[np.ndarray, np.ndarray], np.ndarray]


class CandidateTable:
    """Predictions of the candidates of each image.

    The loss is log odds, which order candidates as cross-entropy does, but don't round to 0 where
    the model is sure.

    Args:
        model: The model under attack.
        criterion: The attack's criterion for the n images.
        perturb: Makes candidates.
        count: Number of candidates of each image.
    """

    def __init__(
        self, model: QueryModel, criterion: Criterion, perturb: Perturb, count: int
    ) -> None:
        self._model, self._criterion, self._perturb = model, criterion, perturb
        self._loss = np.full((count, len(criterion)), -np.inf, np.float32)
        self._adversarial = np.zeros(self._loss.shape, bool)

    @property
    def success(self) -> np.ndarray:
        """Whether a candidate that was asked is adversarial, bool [n]."""
        return self._adversarial.any(axis=0)

    def ask(self, candidates: np.ndarray, images: np.ndarray) -> None:
        """Query each of some candidates for each of some images.

        Args:
            candidates: Numbers of the candidates, int [k].
            images: Numbers of the images, int [m].
        """
        self._ask(candidates.repeat(len(images)), np.tile(images, len(candidates)))

    def worst(self) -> np.ndarray:
        """Number of the adversarial candidate or, without any, the candidate of the highest loss.

        Returns:
            int [n]; of several adversarial candidates that of the highest loss.
        """
        loss = np.where(np.isnan(self._loss), np.finfo(np.float32).min, self._loss)
        return np.argmax(np.where(self.success & ~self._adversarial, -np.inf, loss), axis=0)

    def _ask(self, candidates: np.ndarray, images: np.ndarray) -> None:
        pairs, criterion = (candidates, images), self._criterion[images]
        logits = self._model.logits(self._perturb(*pairs))
        self._loss[pairs] = evaluate_loss(log_odds, logits, criterion)
        self._adversarial[pairs] = criterion.is_adversarial(classes_of(logits))


class RoundedCandidateTable(CandidateTable):
    """Predictions in bfloat16, repeated in float32 wherever rounding could change the result.

    Float32 decides each candidate that may be adversarial and, in `worst`, each that may have the
    highest loss. Log odds differ by rounding no more than the logits do.

    Args:
        rounding: Measures the differences, for all batches of a model.
    """

    _model: TargetModel

    def __init__(
        self,
        model: TargetModel,
        criterion: Criterion,
        perturb: Perturb,
        count: int,
        rounding: RoundingError,
    ) -> None:
        super().__init__(model, criterion, perturb, count)
        self._rounding = rounding
        self._margin = np.full(self._loss.shape, np.nan, np.float32)
        # Which candidates are known in bfloat16 only.
        self._rounded = np.zeros(self._loss.shape, bool)

    @override
    def worst(self) -> np.ndarray:
        # At least one perturbation of each image is measured: the most likely success.
        highest = np.argmax(np.where(self._rounded, self._loss, -np.inf), axis=0)
        images = np.flatnonzero(self._rounded.any(axis=0) & ~self.success)
        candidates = highest[images]
        while len(images):
            for first in range(0, len(images), self._model.batch_size):
                part = slice(first, first + self._model.batch_size)
                self._repeat(candidates[part], images[part])
            candidates, images = np.nonzero(self._undecided())
        return super().worst()

    @override
    def _ask(self, candidates: np.ndarray, images: np.ndarray) -> None:
        pairs = candidates, images
        logits = self._model.rounded_logits(self._perturb(*pairs))
        self._margin[pairs], self._loss[pairs] = _values(logits, self._criterion[images])
        self._rounded[pairs] = True
        self._rounding.count(asked=len(images))
        doubtful = np.flatnonzero(self._may_succeed(self._margin[pairs]))
        if len(doubtful):
            self._repeat(candidates[doubtful], images[doubtful])

    def _repeat(self, candidates: np.ndarray, images: np.ndarray) -> None:
        """Query candidates in float32 that are known in bfloat16."""
        pairs, criterion = (candidates, images), self._criterion[images]
        logits = self._model.logits(self._perturb(*pairs))
        exact, rounded = _values(logits, criterion), (self._margin[pairs], self._loss[pairs])
        self._rounding.measure(np.stack(rounded), exact)
        self._margin[pairs], self._loss[pairs] = exact
        self._rounded[pairs] = False
        adversarial = criterion.is_adversarial(classes_of(logits))
        self._adversarial[pairs] = adversarial
        self._rounding.count(repeated=int(np.count_nonzero(~adversarial)))

    def _may_succeed(self, margins: np.ndarray) -> np.ndarray:
        return ~(margins < -self._rounding.bound)  # true where NaN

    def _undecided(self) -> np.ndarray:
        """Which candidates, of images without success, float32 has to decide."""
        with np.errstate(invalid="ignore"):  # inf - inf
            may_be_highest = self._loss > self._loss.max(axis=0) - self._rounding.bound
        return ~self.success & self._rounded & (may_be_highest | self._may_succeed(self._margin))


def candidate_table(
    model: QueryModel, criterion: Criterion, perturb: Perturb, count: int
) -> CandidateTable:
    """Return an empty table, in bfloat16 if the model has a rounding error to measure and it pays.

    Args:
        model: The model under attack.
        criterion: The attack's criterion for the n images.
        perturb: Makes candidates.
        count: Number of candidates of each image.
    """
    if isinstance(model, TargetModel) and model.rounding is not None and model.rounding.pays:
        return RoundedCandidateTable(model, criterion, perturb, count, model.rounding)
    return CandidateTable(model, criterion, perturb, count)


def _values(logits: np.ndarray, criterion: Criterion) -> np.ndarray:
    """Margin and log odds, float32 [2, n]."""
    return np.stack([evaluate_loss(loss, logits, criterion) for loss in (margin, log_odds)])
