"""Composite perturbations: several neighborhoods, one after the other."""

from __future__ import annotations

import itertools
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from keras_srt import checks
from keras_srt.components import component
from keras_srt.lazy import tf
from keras_srt.neighborhoods.base import Neighborhood, Passes, PerExampleLoss, Perturbed, fold


def _build_stages(stages: Any) -> tuple[Neighborhood, ...]:
    # Here and not above, because the registry lists Composite itself.
    from keras_srt.neighborhoods import NEIGHBORHOODS

    if not isinstance(stages, list | tuple) or len(stages) < 2:
        allowed = 'a list of two or more neighborhoods, such as [{"name": "linf", …}, …]'
        raise PydanticCustomError("allowed", "{allowed}", {"allowed": allowed})
    built, problems = [], []
    for index, stage in enumerate(stages):
        try:
            built.append(stage if isinstance(stage, Neighborhood) else NEIGHBORHOODS.build(stage))
        except checks.InvalidSettings as error:
            problems += error.under(f"[{index}]").problems
    if problems:
        raise checks.InvalidSettings(problems)
    return tuple(built)


@component
class Composite(Neighborhood):
    """T = T_n ∘ … ∘ T_1: the stages in order, each searched from where the last one ended.

    Pixel then spatial is the patent's T₁ (worst r at the untransformed image, then the
    worst transform of x + r); spatial then pixel is T₂ (worst transform, then the worst
    r around it). Any number and order of stages is allowed.
    Source: patent CN111401445A, claims 7-9; Li et al. 2022, section 3.3.

    Args:
        stages: the neighborhoods, first applied first; each has its own range.

    Example:
        >>> from keras_srt.neighborhoods import LInf, Spatial
        >>> both = Composite(stages=(LInf(epsilon=0.3), Spatial()))
        >>> both.describe()["order"]
        'pixel -> spatial'
    """

    name: ClassVar[str] = "composite"
    kind: ClassVar[str] = "composite"

    stages: Annotated[tuple[Neighborhood, ...], BeforeValidator(_build_stages)]

    def maximize(
        self,
        images: tf.Tensor,
        loss_fn: PerExampleLoss,
        seed: tf.Tensor,
        scale: float | tf.Tensor = 1.0,
        start_loss: tf.Tensor | None = None,
    ) -> Perturbed:
        """Each stage's search in turn; see `Neighborhood.maximize`."""
        parameters, loss = [], start_loss
        for index, stage in enumerate(self.stages):
            found = stage.maximize(images, loss_fn, fold(seed, index), scale, loss)
            parameters.append(found.parameters)
            images, loss = found.images, found.loss
        return Perturbed(images, tuple(parameters), loss)

    def apply(self, images: tf.Tensor, parameters: tuple[Any, ...]) -> tf.Tensor:
        """T_n(… T_1(x;θ_1) …;θ_n); one entry of `parameters` for each stage."""
        for stage, its_own in zip(self.stages, parameters, strict=True):
            images = stage.apply(images, its_own)
        return images

    def contains(self, parameters: tuple[Any, ...], scale: float | tf.Tensor = 1.0) -> tf.Tensor:
        """Whether every stage keeps to its own range: bool [batch]."""
        inside = [
            stage.contains(its_own, scale)
            for stage, its_own in zip(self.stages, parameters, strict=True)
        ]
        return tf.reduce_all(tf.stack(inside), axis=0)

    def extent(self, parameters: tuple[Any, ...]) -> np.ndarray:
        """The largest of the stages' own: float64 [batch]."""
        each = [stage.extent(own) for stage, own in zip(self.stages, parameters, strict=True)]
        return np.max(each, axis=0)

    @property
    def passes(self) -> Passes:
        """The sum over the stages; a search after an ascent needs its own start loss."""
        each = [stage.passes for stage in self.stages]
        unknown_start = sum(
            before.gradient > 0 and after.forward > 0 for before, after in itertools.pairwise(each)
        )
        return Passes(
            forward=sum(p.forward for p in each) + unknown_start,
            gradient=sum(p.gradient for p in each),
        )

    @property
    def range(self) -> str:
        """Each stage's range, in order."""
        return "; then ".join(stage.range for stage in self.stages_in_order)

    @property
    def stages_in_order(self) -> tuple[Neighborhood, ...]:
        """The stages, those of composites among them spelled out."""
        return tuple(single for stage in self.stages for single in stage.stages_in_order)
