"""Composite attacks: pixel then spatial (PGD+) and spatial then pixel (GridAdv+)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import field
from typing import Annotated, ClassVar, Literal

import numpy as np

from keras_srt.attacks.base import Attack, AttackResult, composite_of, run_in_sequence
from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.gradient import PGD
from keras_srt.attacks.running_worst_case import RunningWorstCase
from keras_srt.attacks.spatial import GridAdv, GridShape
from keras_srt.attacks.target_model import TargetModel
from keras_srt.attacks.transformed_model import TransformedModel
from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.core.validation import FloatOrFraction
from keras_srt.neighborhoods import Composite
from keras_srt.neighborhoods.draws import fold


@component
class _PixelAndSpatial(Attack):
    """PGD and GridAdv in one order or the other.

    Args:
        epsilon, num_steps, step_size, restarts: see `PGD`, L∞.
        max_rotation, max_translation, grid: see `GridAdv`.
        mode: "sequential", the second attack from where the first one ended; or "joint", for
            what that leaves: PGD for each transform of the grid, through it where the pixels
            come first, around the transformed image where they come second. A picture that
            stays right costs PGD once more for each transform.
    """

    epsilon: Annotated[FloatOrFraction, validation.real(0, 1)] = field(kw_only=False)
    num_steps: Annotated[int, validation.whole(1)] = 40
    step_size: Annotated[float, validation.real(0)] | None = None
    restarts: Annotated[int, validation.whole(1)] = 1
    max_rotation: Annotated[float, validation.real(0, 180)] = 30.0
    max_translation: Annotated[float, validation.real(0)] = 3.0
    grid: GridShape = (5, 5, 31)
    mode: Literal["sequential", "joint"] = "sequential"

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

    def run(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        """See `Attack.run`."""
        found = run_in_sequence(self.stages, model, images, criterion, seed)
        if self.mode == "sequential":
            return found
        return self._jointly(model, images, criterion, found, seed)

    def _jointly(
        self,
        model: TargetModel,
        images: np.ndarray,
        criterion: Criterion,
        found: AttackResult,
        seed: tf.Tensor,
    ) -> AttackResult:
        """PGD for each transform of the grid, the largest first, on whom nothing fooled yet."""
        both, space = self.neighborhood, self._spatial.neighborhood
        worst = RunningWorstCase(
            model.answers(found.images, criterion), criterion, *found.parameters
        )
        points = space.grid_points()
        for number, point in enumerate(
            points[np.argsort(-space.relative_size(points), kind="stable")]
        ):
            active = worst.active
            if not len(active):
                break
            pictures, aim = images[active], criterion[active]
            tried = self._pair(model, pictures, aim, point, fold(seed, len(self.stages) + number))
            moved = both.apply(tf.constant(pictures), tried).numpy()
            worst.add(active, tried, model.answers(moved, aim))
        moved = both.apply(tf.constant(images), worst.parameters).numpy()
        return AttackResult(moved, worst.parameters, worst.fooled)

    @abstractmethod
    def _pair(
        self,
        model: TargetModel,
        images: np.ndarray,
        criterion: Criterion,
        point: np.ndarray,
        seed: tf.Tensor,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The worst r for one transform [3], with the transform, in the order of the stages."""


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

    def _pair(
        self,
        model: TargetModel,
        images: np.ndarray,
        criterion: Criterion,
        point: np.ndarray,
        seed: tf.Tensor,
    ) -> tuple[np.ndarray, np.ndarray]:
        through = TransformedModel(model, self._spatial.neighborhood, point)
        found = self._pixel.run(through, images, criterion, seed)
        return found.parameters, through.repeated(len(images))


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

    def _pair(
        self,
        model: TargetModel,
        images: np.ndarray,
        criterion: Criterion,
        point: np.ndarray,
        seed: tf.Tensor,
    ) -> tuple[np.ndarray, np.ndarray]:
        through = TransformedModel(model, self._spatial.neighborhood, point)
        found = self._pixel.run(model, through.seen(images), criterion, seed)
        return through.repeated(len(images)), found.parameters
