"""Carlini and Wagner's L2 attack."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import pydantic

from keras_srt.attacks.attack_losses import margin
from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.minimal_norm import MinimalNormAttack
from keras_srt.attacks.target_model import TargetModel
from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import L2

# arctanh is infinite at 0 and 1; the original shrinks the pixel values by this, too.
_INSIDE = 0.999999
# A search is looked at ten times, and goes on where the objective fell to this share.
_LOOKS, _PROGRESS = 10, 0.9999
_BETA_1, _BETA_2, _TINY = 0.9, 0.999, 1e-8


@component
class CarliniWagner(MinimalNormAttack):
    """C&W L2: min ‖x'-x‖₂² + c·max(κ - m(x'), 0) by Adam, with x' = (tanh w + 1)/2.

    m is the margin max_{j≠y} f_j - f_y, or f_t - max_{j≠t} f_j for a target t. c is found for
    each image by bisection: ×10 until a search succeeds, then between the largest that
    failed and the smallest that did not. The nearest image of all searches is taken.
    One gradient pass for each iteration of an image that has not stalled.

    Source: Carlini and Wagner 2017, section VI, and its code.

    Args:
        epsilon, epsilons: radii that count; see `MinimalNormAttack`.
        searches: values of c that are tried.
        iterations: of Adam, for each c at most.
        learning_rate: of Adam.
        initial_const: the first c.
        confidence: κ, the margin that an image must have to count as found.
        abort_early: whether an image stops where a tenth of the iterations brought nothing.

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

    def find_nearest(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> np.ndarray:
        """See `MinimalNormAttack.find_nearest`; it draws nothing, so the seed has no effect."""
        nearest, shortest = np.array(images), np.full(len(images), np.inf)
        const = np.full(len(images), self.initial_const)
        low, high = np.zeros(len(images)), np.full(len(images), np.inf)
        for _ in range(self.searches):
            found, length = self._search(model, images, criterion, const)
            better = length < shortest
            nearest[better], shortest[better] = found[better], length[better]
            success = np.isfinite(length)
            low, high = np.where(success, low, const), np.where(success, const, high)
            const = np.where(np.isfinite(high), (low + high) / 2, const * 10)
        return nearest

    def _search(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, const: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """One descent from the images; the nearest that fool, and ‖x'-x‖₂², or infinity."""
        found, shortest = np.array(images), np.full(len(images), np.inf)
        before = np.full(len(images), np.inf)
        active, descent = np.arange(len(images)), _Descent(images, self.learning_rate)
        between_looks = max(1, self.iterations // _LOOKS)
        for iteration in range(self.iterations):
            now, aim = descent.images, criterion[active]
            answers, slope = model.gradient(now, aim, margin)
            moved = now - images[active]
            length = np.square(moved).sum(axis=(1, 2, 3))
            # A model that answers NaN has no margin; `not below` lets its answer count.
            reached = aim.is_adversarial(answers.classes) & ~(answers.loss < self.confidence)
            better = reached & (length < shortest[active])
            found[active[better]], shortest[active[better]] = now[better], length[better]
            missing = np.maximum(self.confidence - answers.loss, 0)
            weight = np.float32(const[active] * (missing > 0))[:, None, None, None]
            descent.step(2 * moved - weight * slope)
            if self.abort_early and iteration % between_looks == 0:
                objective = length + const[active] * missing
                going = ~(objective > _PROGRESS * before[active])
                before[active] = objective
                active = active[going]
                if not len(active):
                    break
                descent.keep(going)
        return found, shortest


class _Descent:
    """Adam on w, where images = (tanh w + 1)/2 stay inside [0, 1] by themselves."""

    def __init__(self, images: np.ndarray, learning_rate: float) -> None:
        self._rate, self._steps = learning_rate, 0
        self._tangent = np.arctanh((2 * images - 1) * np.float32(_INSIDE))
        self._mean, self._square = np.zeros_like(images), np.zeros_like(images)
        self._squashed = np.tanh(self._tangent)

    @property
    def images(self) -> np.ndarray:
        """float32 [n, height, width, channels]."""
        return (self._squashed + 1) / 2

    def step(self, gradient: np.ndarray) -> None:
        """One step against the gradient with respect to the images."""
        gradient = gradient * (1 - np.square(self._squashed)) / 2
        self._steps += 1
        self._mean += (1 - _BETA_1) * (gradient - self._mean)
        self._square += (1 - _BETA_2) * (np.square(gradient) - self._square)
        mean = self._mean / (1 - _BETA_1**self._steps)
        square = self._square / (1 - _BETA_2**self._steps)
        self._tangent -= self._rate * mean / (np.sqrt(square) + _TINY)
        self._squashed = np.tanh(self._tangent)

    def keep(self, chosen: np.ndarray) -> None:
        """Drops the other images."""
        self._tangent, self._squashed = self._tangent[chosen], self._squashed[chosen]
        self._mean, self._square = self._mean[chosen], self._square[chosen]
