"""Carlini and Wagner's L2 attack."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import pydantic
from typing_extensions import override

from keras_srt.attacks.attack_losses import margin
from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.minimal_norm import MinimalNormAttack
from keras_srt.attacks.target_model import TargetModel
from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import L2

# arctanh is infinite at 0 and 1; as in the reference code, pixel values are shrunk by this.
_INSIDE = 0.999999
# A search is checked ten times, and stops unless the mean objective since the last check fell
# below this share of the mean before.
_CHECKS, _PROGRESS = 10, 0.9999
_BETA_1, _BETA_2, _TINY = 0.9, 0.999, 1e-8


@component
class CarliniWagner(MinimalNormAttack):
    """C&W L2: min ‖x'-x‖₂² + c·max(κ - m(x'), 0) by Adam, with x' = (tanh w + 1)/2.

    m is the margin max_{j≠y} f_j - f_y, or f_t - max_{j≠t} f_j for a target t. A binary search
    finds c for each image: ×10 until a search succeeds, then halfway between the largest c that
    failed and the smallest that succeeded. The result is the nearest image of all searches. Each
    iteration costs one gradient pass for each image that has not stalled.

    Source: Carlini and Wagner 2017, section VI, and its code.

    Args:
        epsilon, epsilons: Radii, see `MinimalNormAttack`.
        searches: Number of values of c.
        iterations: Iterations of Adam for each c at most.
        learning_rate: Learning rate of Adam.
        initial_const: First value of c.
        confidence: κ, the margin that a success must have.
        abort_early: Whether an image stops when a tenth of the iterations made no progress.

    Example:
        >>> CarliniWagner(epsilon=1.5, epsilons=(0.5, 1.0)).searches
        9
    """

    name: ClassVar[str] = "cw"
    ball: ClassVar[type[L2]] = L2

    searches: Annotated[int, validation.whole(1)] = 9
    iterations: Annotated[int, validation.whole(1)] = 10_000
    learning_rate: Annotated[float, validation.real(0)] = 0.01
    initial_const: Annotated[float, validation.real(0)] = 1e-3
    confidence: Annotated[float, validation.real(0)] = 0.0
    abort_early: pydantic.StrictBool = True

    @override
    def find_nearest(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> np.ndarray:
        nearest, shortest = np.array(images), np.full(len(images), np.inf)
        const = np.full(len(images), self.initial_const)
        low, high = np.zeros(len(images)), np.full(len(images), np.inf)
        for _ in model.progress.each(range(self.searches)):
            candidates, length = self._search(model, images, criterion, const)
            better = length < shortest
            nearest[better], shortest[better] = candidates[better], length[better]
            success = np.isfinite(length)
            low, high = np.where(success, low, const), np.where(success, const, high)
            const = np.where(np.isfinite(high), (low + high) / 2, const * 10)
        return nearest

    def _search(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, const: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Run one descent; return the nearest adversarial images and ‖x'-x‖₂², or infinity."""
        nearest, shortest = np.array(images), np.full(len(images), np.inf)
        before, total = np.full(len(images), np.inf), np.zeros(len(images))
        active, descent = np.arange(len(images)), _Descent(images, self.learning_rate)
        check_interval = max(1, self.iterations // _CHECKS)
        for iteration in model.progress.each(range(self.iterations)):
            now, aim = descent.images, criterion[active]
            predictions, slope = model.gradient(now, aim, margin)
            moved = now - images[active]
            length = np.square(moved).sum(axis=(1, 2, 3))
            # NaN logits have a NaN margin; `not below` accepts them as adversarial.
            confident = ~(predictions.loss < self.confidence)
            adversarial = aim.is_adversarial(predictions.classes) & confident
            better = adversarial & (length < shortest[active])
            nearest[active[better]], shortest[active[better]] = now[better], length[better]
            missing = np.maximum(self.confidence - predictions.loss, 0)
            # At a margin of exactly κ, as of rounded logits, the image is not adversarial yet.
            weight = np.float32(const[active] * ~adversarial)[:, None, None, None]
            descent.step(2 * moved - weight * slope)
            # In half precision, a single objective has an error larger than its progress.
            total += length + const[active] * missing
            if self.abort_early and iteration % check_interval == 0:
                objective = total / (check_interval if iteration else 1)
                progressing = ~(objective > _PROGRESS * before)
                active, before = active[progressing], objective[progressing]
                if not len(active):
                    break
                total = np.zeros(len(active))
                descent.keep(progressing)
        return nearest, shortest


class _Descent:
    """Adam on w, where images = (tanh w + 1)/2 are always inside [0, 1]."""

    def __init__(self, images: np.ndarray, learning_rate: float) -> None:
        self._rate, self._steps = learning_rate, 0
        self._tangent = np.arctanh((2 * images - 1) * np.float32(_INSIDE))
        self._mean, self._square = np.zeros_like(images), np.zeros_like(images)
        self._squashed = np.tanh(self._tangent)

    @property
    def images(self) -> np.ndarray:
        """Current images, float32 [n, height, width, channels]."""
        return (self._squashed + 1) / 2

    def step(self, gradient: np.ndarray) -> None:
        """Take a step against the gradient with respect to the images."""
        gradient = gradient * (1 - np.square(self._squashed)) / 2
        self._steps += 1
        self._mean += (1 - _BETA_1) * (gradient - self._mean)
        self._square += (1 - _BETA_2) * (np.square(gradient) - self._square)
        mean = self._mean / (1 - _BETA_1**self._steps)
        square = self._square / (1 - _BETA_2**self._steps)
        self._tangent -= self._rate * mean / (np.sqrt(square) + _TINY)
        self._squashed = np.tanh(self._tangent)

    def keep(self, chosen: np.ndarray) -> None:
        """Drop all other images."""
        self._tangent, self._squashed = self._tangent[chosen], self._squashed[chosen]
        self._mean, self._square = self._mean[chosen], self._square[chosen]
