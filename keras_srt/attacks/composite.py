"""Composite attacks: pixel then spatial (PGD+) and spatial then pixel (GridAdv+)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import field
from typing import Annotated, ClassVar, Literal

import numpy as np
from typing_extensions import override

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
    """Base class of PGD and GridAdv in sequence, in either order.

    Args:
        epsilon, num_steps, step_size, restarts: See `PGD`, in L∞.
        max_rotation, max_translation, grid: See `GridAdv`.
        mode: "sequential" runs the second attack on the result of the first. "joint" then also
            runs PGD for each transform of the grid on the images that survive: through the
            transform if the pixels come first, around the transformed image if they come second.
            A surviving image costs one more PGD for each transform.
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
        """The two attacks in the order of application."""

    @property
    @override
    def neighborhood(self) -> Composite:
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

    @override
    def search(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        result = run_in_sequence(self.stages, model, images, criterion, seed)
        if self.mode == "sequential":
            return result
        return self._search_jointly(model, images, criterion, result, seed)

    def _search_jointly(
        self,
        model: TargetModel,
        images: np.ndarray,
        criterion: Criterion,
        start: AttackResult,
        seed: tf.Tensor,
    ) -> AttackResult:
        """Run PGD on surviving images for each transform of the grid, the largest first."""
        both, space = self.neighborhood, self._spatial.neighborhood
        worst = RunningWorstCase(
            model.predictions(start.images, criterion), criterion, *start.parameters
        )
        points = space.grid_points()
        for number, point in enumerate(
            points[np.argsort(-space.relative_size(points), kind="stable")]
        ):
            active = worst.active
            if not len(active):
                break
            originals, aim = images[active], criterion[active]
            draw = fold(seed, len(self.stages) + number)
            tried = self._attack_pixels(model, originals, aim, point, draw)
            perturbed = both.apply(tf.constant(originals), tried).numpy()
            worst.add(active, tried, model.predictions(perturbed, aim))
        perturbed = both.apply(tf.constant(images), worst.parameters).numpy()
        return AttackResult(perturbed, worst.parameters, worst.success)

    @abstractmethod
    def _attack_pixels(
        self,
        model: TargetModel,
        images: np.ndarray,
        criterion: Criterion,
        point: np.ndarray,
        seed: tf.Tensor,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Search the worst r for one transform [3]; return both, in the order of the stages."""


@component
class PGDPlus(_PixelAndSpatial):
    """PGD+: the worst r at the untransformed image, then the worst transform of x + r (T₁).

    The arguments are those of `PGD` (L∞) and of `GridAdv`.

    Source: Li et al. 2022, section 4.3.

    Example:
        >>> PGDPlus(epsilon=0.3).norm
        'linf+spatial'
    """

    name: ClassVar[str] = "pgd_plus"

    @property
    @override
    def stages(self) -> tuple[Attack, Attack]:
        return self._pixel, self._spatial

    @override
    def _attack_pixels(
        self,
        model: TargetModel,
        images: np.ndarray,
        criterion: Criterion,
        point: np.ndarray,
        seed: tf.Tensor,
    ) -> tuple[np.ndarray, np.ndarray]:
        transformed = TransformedModel(model, self._spatial.neighborhood, point)
        result = self._pixel.run(transformed, images, criterion, seed)
        return result.parameters, transformed.repeated(len(images))


@component
class GridAdvPlus(_PixelAndSpatial):
    """GridAdv+: the worst transform, then the worst r around the transformed image (T₂).

    The arguments are those of `PGD` (L∞) and of `GridAdv`.

    Source: Li et al. 2022, section 4.3.

    Example:
        >>> GridAdvPlus(epsilon=0.3).norm
        'spatial+linf'
    """

    name: ClassVar[str] = "gridadv_plus"

    @property
    @override
    def stages(self) -> tuple[Attack, Attack]:
        return self._spatial, self._pixel

    @override
    def _attack_pixels(
        self,
        model: TargetModel,
        images: np.ndarray,
        criterion: Criterion,
        point: np.ndarray,
        seed: tf.Tensor,
    ) -> tuple[np.ndarray, np.ndarray]:
        transformed = TransformedModel(model, self._spatial.neighborhood, point)
        result = self._pixel.run(model, transformed.transform(images), criterion, seed)
        return transformed.repeated(len(images)), result.parameters
