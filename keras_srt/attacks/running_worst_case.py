"""Worst parameters of each image among those an attack has tried so far."""

from __future__ import annotations

import numpy as np

from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.target_model import Predictions


class RunningWorstCase:
    """Keeps for each image the θ that is adversarial or, if none is, that of the highest loss.

    Args:
        predictions: Predictions of the model for the images under `parameters`.
        criterion: The attack's criterion.
        parameters: Initial θ of each image, one array [n, …] for each stage; copied.

    Attributes:
        parameters: The worst θ so far.
        success: Whether it is adversarial, bool [n].

    Example:
        >>> criterion = Criterion(np.int32([0, 0]))
        >>> start = Predictions(np.int32([0, 0]), np.float32([1, 1]))
        >>> worst = RunningWorstCase(start, criterion, np.zeros((2, 1)))
        >>> new = Predictions(np.int32([1, 0]), np.float32([0, 0]))
        >>> worst.add(worst.active, (np.ones((2, 1)),), new)
        >>> worst.active, worst.parameters[0].ravel()
        (array([1]), array([1., 0.]))
    """

    def __init__(
        self, predictions: Predictions, criterion: Criterion, *parameters: np.ndarray
    ) -> None:
        self._criterion = criterion
        self._loss = np.array(predictions.loss)
        self.parameters = tuple(np.array(stage) for stage in parameters)
        self.success = criterion.is_adversarial(predictions.classes)

    @property
    def active(self) -> np.ndarray:
        """Indices of the images without an adversarial θ."""
        return np.flatnonzero(~self.success)

    def add(
        self, active: np.ndarray, tried: tuple[np.ndarray, ...], predictions: Predictions
    ) -> None:
        """Add candidates for some images.

        Args:
            active: Indices of the images, none of which has an adversarial θ yet.
            tried: θ of each of them, one array for each stage.
            predictions: Predictions of the model under `tried`.
        """
        success = self._criterion[active].is_adversarial(predictions.classes)
        better = success | (predictions.loss > self._loss[active])
        for stage, new in zip(self.parameters, tried, strict=True):
            stage[active[better]] = np.asarray(new)[better]
        self._loss[active[better]] = predictions.loss[better]
        self.success[active[success]] = True
