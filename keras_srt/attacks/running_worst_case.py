"""The worst parameters that an attack has met so far, image by image."""

from __future__ import annotations

import numpy as np

from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.target_model import Answers


class RunningWorstCase:
    """Of each image the θ that fools, else that of the highest loss.

    Args:
        answers: of the model to the images under `parameters`.
        criterion: of the attack.
        parameters: θ of each image, one array [n, …] for each stage; they are copied.

    Attributes:
        parameters: the worst θ.
        fooled: bool [n], whether it reaches the criterion.

    Example:
        >>> criterion = Criterion(np.int32([0, 0]))
        >>> start = Answers(np.int32([0, 0]), np.float32([1, 1]))
        >>> worst = RunningWorstCase(start, criterion, np.zeros((2, 1)))
        >>> tried = Answers(np.int32([1, 0]), np.float32([0, 0]))
        >>> worst.add(worst.active, (np.ones((2, 1)),), tried)
        >>> worst.active, worst.parameters[0].ravel()
        (array([1]), array([1., 0.]))
    """

    def __init__(self, answers: Answers, criterion: Criterion, *parameters: np.ndarray) -> None:
        self._goal = criterion
        self._loss = np.array(answers.loss)
        self.parameters = tuple(np.array(own) for own in parameters)
        self.fooled = criterion.is_adversarial(answers.classes)

    @property
    def active(self) -> np.ndarray:
        """The numbers of the images that aren't fooled."""
        return np.flatnonzero(~self.fooled)

    def add(self, active: np.ndarray, tried: tuple[np.ndarray, ...], answers: Answers) -> None:
        """Takes note of another try.

        Args:
            active: the numbers of the images that were tried, none of them fooled before.
            tried: θ of each of these, one array for each stage.
            answers: of the model to them.
        """
        fools = self._goal[active].is_adversarial(answers.classes)
        better = fools | (answers.loss > self._loss[active])
        for own, new in zip(self.parameters, tried, strict=True):
            own[active[better]] = np.asarray(new)[better]
        self._loss[active[better]] = answers.loss[better]
        self.fooled[active[fools]] = True
