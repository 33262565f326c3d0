"""Attacks that look for the smallest perturbation, and the radius within which it counts."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import field
from typing import Annotated

import numpy as np

from keras_srt.attacks.base import Attack, AttackResult
from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.target_model import TargetModel
from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.core.validation import FloatOrFraction
from keras_srt.neighborhoods.lp import LpBall


@component
class MinimalNormAttack(Attack):
    """Looks for the nearest image that fools; it counts where it lies within ε.

    A subclass gives `find_nearest` and the `ball` of its norm. What lies beyond ε is no
    success: the image itself is returned for it, and the nearest one beside it, so that
    distances and the success at other radii are known, too.

    Args:
        epsilon: ε, the radius within which a perturbation counts, in the norm of `ball`.
        epsilons: further radii at which the evaluation reports the accuracy.
    """

    epsilon: Annotated[FloatOrFraction, validation.real(0)] = field(kw_only=False)
    epsilons: tuple[Annotated[float, validation.real(0)], ...] = ()

    @property
    @abstractmethod
    def ball(self) -> type[LpBall]:
        """The kind of ball, by its norm."""

    @abstractmethod
    def find_nearest(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> np.ndarray:
        """The nearest images on which the criterion is reached.

        Args:
            model: the model under attack.
            images: float32 [n, height, width, channels] in [0, 1], one or more, none of
                which reaches its criterion yet.
            criterion: the answers to leave and, if the attack is targeted, those to reach.
            seed: int32 [2].

        Returns:
            float32, the shape of `images`, in [0, 1]; the image itself where none was found.
        """

    @property
    def neighborhood(self) -> LpBall:
        """The ball of radius ε."""
        return self.ball(epsilon=self.epsilon)

    def run(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        """See `Attack.run`; an image that fools already is its own nearest."""
        nearest = np.array(images)
        fooled = criterion.is_adversarial(model.answers(images, criterion).classes)
        surviving = np.flatnonzero(~fooled)
        if len(surviving):
            found = self.find_nearest(model, images[surviving], criterion[surviving], seed)
            nearest[surviving] = found
            fooled[surviving] = criterion[surviving].is_adversarial(
                model.answers(found, criterion[surviving]).classes
            )
        within = self.neighborhood.relative_size(nearest.astype(np.float64) - images) <= 1.0
        counts = (fooled & within)[:, None, None, None]
        found = np.where(counts, nearest, images)
        return AttackResult(found, found - images, fooled & within, nearest)
