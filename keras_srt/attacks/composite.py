"""Composite attacks: pixel then spatial (PGD+) and spatial then pixel (GridAdv+)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar

import numpy as np

from keras_srt import checks
from keras_srt.attacks.base import Attack, Found, composite_of, run_in_sequence
from keras_srt.attacks.goal import Goal
from keras_srt.attacks.gradient import PGD
from keras_srt.attacks.spatial import GridAdv, GridShape
from keras_srt.attacks.victim import Victim
from keras_srt.components import component
from keras_srt.lazy import tf
from keras_srt.neighborhoods import Composite


@component
class _PixelAndSpatial(Attack):
    """PGD and GridAdv in one order or the other.

    Args:
        epsilon, num_steps, step_size, restarts: see `PGD`, L∞.
        max_rotation, max_translation, grid: see `GridAdv`.
    """

    epsilon: Annotated[float, checks.real(0, 1)]
    num_steps: Annotated[int, checks.whole(1)] = 40
    step_size: Annotated[float, checks.real(0)] | None = None
    restarts: Annotated[int, checks.whole(1)] = 1
    max_rotation: Annotated[float, checks.real(0, 180)] = 30.0
    max_translation: Annotated[float, checks.real(0)] = 3.0
    grid: GridShape = (5, 5, 31)

    @property
    @abstractmethod
    def stages(self) -> tuple[Attack, Attack]:
        """The two attacks, in order."""

    @property
    def neighborhood(self) -> Composite:
        """Both perturbations, in the order of the stages."""
        return composite_of(self.stages)

    @property
    def _pixel(self) -> PGD:
        return PGD(
            epsilon=self.epsilon,
            num_steps=self.num_steps,
            step_size=self.step_size,
            restarts=self.restarts,
        )

    @property
    def _spatial(self) -> GridAdv:
        return GridAdv(
            max_rotation=self.max_rotation,
            max_translation=self.max_translation,
            grid=self.grid,
        )

    def run(self, victim: Victim, images: np.ndarray, goal: Goal, seed: tf.Tensor) -> Found:
        """See `Attack.run`."""
        return run_in_sequence(self.stages, victim, images, goal, seed)


@component
class PGDPlus(_PixelAndSpatial):
    """PGD+: the worst r at the untransformed image, then the worst transform of x + r (T₁).

    Source: Li et al. 2022, section 4.3.

    Arguments: those of `PGD` (L∞) and of `GridAdv`.

    Example:
        >>> PGDPlus(epsilon=0.3).norm
        'linf+spatial'
    """

    name: ClassVar[str] = "pgd_plus"

    @property
    def stages(self) -> tuple[Attack, Attack]:
        """Pixel, then spatial."""
        return self._pixel, self._spatial


@component
class GridAdvPlus(_PixelAndSpatial):
    """GridAdv+: the worst transform, then the worst r around the transformed image (T₂).

    Source: Li et al. 2022, section 4.3.

    Arguments: those of `PGD` (L∞) and of `GridAdv`.

    Example:
        >>> GridAdvPlus(epsilon=0.3).norm
        'spatial+linf'
    """

    name: ClassVar[str] = "gridadv_plus"

    @property
    def stages(self) -> tuple[Attack, Attack]:
        """Spatial, then pixel."""
        return self._spatial, self._pixel
