"""Base class of the attacks that minimize the norm of the perturbation."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import field
from typing import Annotated

import numpy as np
from typing_extensions import override

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
    """Search for the nearest adversarial image, which is a success if it is within ε.

    A subclass implements `find_nearest` and the `ball` of its norm. Beyond ε, the result is the
    original image, and `nearest` still holds the nearest adversarial image, so that distances
    and the success at other radii are known.

    Args:
        epsilon: ε, the radius of the threat model in the norm of `ball`.
        epsilons: Further radii at which the evaluation reports the accuracy.
    """

    epsilon: Annotated[FloatOrFraction, validation.real(0)] = field(kw_only=False)
    epsilons: tuple[Annotated[float, validation.real(0)], ...] = ()

    @property
    @abstractmethod
    def ball(self) -> type[LpBall]:
        """Ball of the attack's norm."""

    @abstractmethod
    def find_nearest(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> np.ndarray:
        """Search for the nearest adversarial images.

        Args:
            model: The model under attack; declare it as `QueryModel` if `needs_gradients` is
                false.
            images: float32 [n, height, width, channels] in [0, 1], n ≥ 1; none of them is
                adversarial yet.
            criterion: Labels and, for a targeted attack, targets.
            seed: int32 [2].

        Returns:
            float32 of the shape of `images`, in [0, 1]; the original where the search failed.
        """

    @property
    @override
    def neighborhood(self) -> LpBall:
        return self.ball(epsilon=self.epsilon)

    @override
    def search(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        nearest = np.array(images)
        success = criterion.is_adversarial(model.predictions(images, criterion).classes)
        active = np.flatnonzero(~success)
        if len(active):
            criterion = criterion[active]
            nearest[active] = self.find_nearest(model, images[active], criterion, seed)
            classes = model.predictions(nearest[active], criterion).classes
            success[active] = criterion.is_adversarial(classes)
        within = self.neighborhood.relative_size(nearest.astype(np.float64) - images) <= 1.0
        success &= within
        result = np.where(success[:, None, None, None], nearest, images)
        return AttackResult(result, result - images, success, nearest)
