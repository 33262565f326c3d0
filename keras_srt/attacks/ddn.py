"""DDN, an L2 attack that decouples the direction and the norm of the perturbation."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from typing_extensions import override

from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.minimal_norm import MinimalNormAttack
from keras_srt.attacks.target_model import TargetModel
from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import L2

_FIRST_STEP, _LAST_STEP = 1.0, 0.01


@component
class DDN(MinimalNormAttack):
    """Decoupled direction and norm: a normalized gradient step, then an adaptive norm.

    δ ← δ + α_k·∇/‖∇‖₂ with the gradient of CE(f(x+δ), y), where α_k falls from 1 to 0.01 along a
    cosine; then δ ← ν·δ/‖δ‖₂, where ν shrinks by 1-γ if x+δ is adversarial and grows by 1+γ
    otherwise. The cost is k gradient passes and one forward pass for each image.

    Source: Rony et al. 2019, algorithm 1.

    Args:
        epsilon, epsilons: Radii, see `MinimalNormAttack`.
        num_steps: k.
        gamma: γ, the share by which the norm changes at a step.
        init_norm: Initial ν.
        levels: Number of levels to which pixel values are rounded (256 in the paper), so that
            images can be stored; null for no rounding.

    Example:
        >>> DDN(epsilon=1.5).norm
        'l2'
    """

    name: ClassVar[str] = "ddn"
    ball: ClassVar[type[L2]] = L2

    num_steps: Annotated[int, validation.whole(1)] = 100
    gamma: Annotated[float, validation.real(0, 1)] = 0.05
    init_norm: Annotated[float, validation.real(0)] = 1.0
    levels: Annotated[int, validation.whole(2)] | None = None

    @override
    def find_nearest(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> np.ndarray:
        generator = np.random.default_rng(np.asarray(seed).view(np.uint32))
        nearest, shortest = np.array(images), np.full(len(images), np.inf)
        # The largest norm of a perturbation inside [0, 1].
        longest = L2.distance(np.maximum(images, 1 - images))
        now, norm = np.array(images), np.full(len(images), self.init_norm)
        for step in model.progress.each(range(self.num_steps)):
            predictions, gradient = model.gradient(now, criterion)
            adversarial = criterion.is_adversarial(predictions.classes)
            _keep_nearest(nearest, shortest, now, images, adversarial)
            norm = np.minimum(norm * np.where(adversarial, 1 - self.gamma, 1 + self.gamma), longest)
            cosine = (1 + np.cos(np.pi * step / self.num_steps)) / 2
            length = _LAST_STEP + (_FIRST_STEP - _LAST_STEP) * cosine
            moved = now - images + length * _direction(gradient, generator)
            now = self._rounded(np.clip(images + _column(norm) * _unit(moved), 0, 1))
        adversarial = criterion.is_adversarial(model.predictions(now, criterion).classes)
        _keep_nearest(nearest, shortest, now, images, adversarial)
        return nearest

    def _rounded(self, images: np.ndarray) -> np.ndarray:
        if self.levels is not None:
            images = np.round(images * (self.levels - 1)) / (self.levels - 1)
        return np.float32(images)


def _keep_nearest(
    nearest: np.ndarray,
    shortest: np.ndarray,
    now: np.ndarray,
    images: np.ndarray,
    adversarial: np.ndarray,
) -> None:
    """Update `nearest` and `shortest` with the adversarial images of `now`."""
    length = L2.distance(now - images)
    better = adversarial & (length < shortest)
    nearest[better], shortest[better] = now[better], length[better]


def _column(values: np.ndarray) -> np.ndarray:
    return values[:, None, None, None]


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Scale each vector to norm 1; a zero vector stays zero."""
    length = _column(L2.distance(vectors))
    return np.divide(vectors, length, out=np.zeros_like(vectors, np.float64), where=length > 0)


def _direction(gradient: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Gradient scaled to norm 1; a random direction where it vanishes."""
    flat = L2.distance(gradient) == 0
    if flat.any():
        gradient = np.array(gradient)
        gradient[flat] = generator.normal(size=gradient[flat].shape)
    return _unit(gradient)
