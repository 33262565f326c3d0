"""DDN: direction and norm decoupled, for the smallest L2 perturbation in few steps."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np

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
    """Decoupled direction and norm: a normalized gradient step, then a norm that adapts.

    δ ← δ + α_k·∇/‖∇‖₂ with the gradient of CE(f(x+δ), y), α_k from 1 to 0.01 by a cosine;
    then δ ← ν·δ/‖δ‖₂, where ν shrinks by 1-γ if x+δ fools and grows by 1+γ if not.
    k gradient passes and one forward pass for each image.

    Source: Rony et al. 2019, algorithm 1.

    Args:
        epsilon, epsilons: radii that count; see `MinimalNormAttack`.
        num_steps: k.
        gamma: γ, the share by which the norm changes at a step.
        init_norm: ν at the start.
        levels: gray levels to which every image is rounded, 256 in the paper, so that it
            can be stored; null for none.

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

    def find_nearest(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> np.ndarray:
        """See `MinimalNormAttack.find_nearest`; every image takes all steps."""
        generator = np.random.default_rng(np.asarray(seed).view(np.uint32))
        found, shortest = np.array(images), np.full(len(images), np.inf)
        # No perturbation inside [0, 1] is longer.
        longest = L2.distance(np.maximum(images, 1 - images))
        now, norm = np.array(images), np.full(len(images), self.init_norm)
        for step in range(self.num_steps):
            answers, gradient = model.gradient(now, criterion)
            reached = criterion.is_adversarial(answers.classes)
            _keep_shorter(found, shortest, now, images, reached)
            norm = np.minimum(norm * np.where(reached, 1 - self.gamma, 1 + self.gamma), longest)
            turn = (1 + np.cos(np.pi * step / self.num_steps)) / 2
            length = _LAST_STEP + (_FIRST_STEP - _LAST_STEP) * turn
            moved = now - images + length * _direction(gradient, generator)
            now = self._rounded(np.clip(images + _column(norm) * _unit(moved), 0, 1))
        reached = criterion.is_adversarial(model.answers(now, criterion).classes)
        _keep_shorter(found, shortest, now, images, reached)
        return found

    def _rounded(self, images: np.ndarray) -> np.ndarray:
        if self.levels is not None:
            images = np.round(images * (self.levels - 1)) / (self.levels - 1)
        return np.float32(images)


def _keep_shorter(
    found: np.ndarray,
    shortest: np.ndarray,
    now: np.ndarray,
    images: np.ndarray,
    reached: np.ndarray,
) -> None:
    """Puts those of `now` that reach the criterion and are nearer than ever into `found`."""
    length = L2.distance(now - images)
    better = reached & (length < shortest)
    found[better], shortest[better] = now[better], length[better]


def _column(values: np.ndarray) -> np.ndarray:
    return values[:, None, None, None]


def _unit(vectors: np.ndarray) -> np.ndarray:
    """At length 1, or 0 where the vector is."""
    length = _column(L2.distance(vectors))
    return np.divide(vectors, length, out=np.zeros_like(vectors, np.float64), where=length > 0)


def _direction(gradient: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The gradient at length 1; a random direction where it vanishes."""
    flat = L2.distance(gradient) == 0
    if flat.any():
        gradient = np.array(gradient)
        gradient[flat] = generator.normal(size=gradient[flat].shape)
    return _unit(gradient)
