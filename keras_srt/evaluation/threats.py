"""Pixel balls in which an evaluation attacks, and PGD on a sample of its images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_srt.attacks import PGD, Attack, Criterion, MinimalNormAttack, QueryModel
from keras_srt.attacks.pixel_balls import BALLS
from keras_srt.core.tensorflow import tf
from keras_srt.evaluation.runner import check_inside


class Threat(NamedTuple):
    """A pixel ball: its norm, "linf" or "l2", and its ε."""

    norm: str
    epsilon: float


def threats_of(attacks: Sequence[Attack]) -> list[Threat]:
    """List the pixel balls that gradient attacks search, the largest of each norm."""
    largest: dict[str, float] = {}
    for attack in attacks:
        searches = attack.needs_gradients and not isinstance(attack, MinimalNormAttack)
        if searches and attack.norm in BALLS and attack.radius:
            largest[attack.norm] = max(attack.radius, largest.get(attack.norm, 0.0))
    return [Threat(norm, epsilon) for norm, epsilon in largest.items()]


class Sample(NamedTuple):
    """A model, a pixel ball, and some test images to attack in it.

    Attributes:
        model: The model under attack.
        images: float32 [n, height, width, channels] in [0, 1].
        labels: True classes, int32 [n].
        correct: Whether each clean image is correctly classified, bool [n].
        chance: Accuracy of a random guess.
        threat: The pixel ball.
        seed: int32 [2].
    """

    model: QueryModel
    images: np.ndarray
    labels: np.ndarray
    correct: np.ndarray
    chance: float
    threat: Threat
    seed: tf.Tensor

    @property
    def largest_radius(self) -> float:
        """Smallest ε at which every image is in the ball."""
        return 1.0 if self.threat.norm == "linf" else float(np.sqrt(self.images[0].size))

    def surviving(self, attack: Attack, among: np.ndarray) -> np.ndarray:
        """Attack some images; return which of them are still correctly classified, bool [n].

        Args:
            attack: An untargeted attack.
            among: Images to attack, all correctly classified so far, bool [n].
        """
        index, still = np.flatnonzero(among), among.copy()
        if len(index):
            images, criterion = self.images[index], Criterion(self.labels[index])
            result = attack.run(self.model, images, criterion, self.seed)
            check_inside(attack, images, result)
            still[index] = ~result.success
        return still

    def pgd(self, epsilon: float, **settings: Any) -> PGD:
        """PGD in the norm of the threat, by default without a random start."""
        ball: dict[str, Any] = {"epsilon": epsilon, "norm_ball": self.threat.norm}
        return PGD(**(ball | {"random_start": False} | settings))
