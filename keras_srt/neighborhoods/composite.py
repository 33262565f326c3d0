"""Composite perturbations: several neighborhoods in sequence."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError
from typing_extensions import override

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods.base import Neighborhood
from keras_srt.neighborhoods.composite_search import (
    JointSearch,
    SequentialSearch,
    candidate_search_of,
)
from keras_srt.neighborhoods.draws import Seed, fold
from keras_srt.neighborhoods.solver import Scale


def build_stages(stages: Any) -> tuple[Neighborhood, ...]:
    """Build two or more neighborhoods from their settings."""
    # Imported late, because the registry imports this module.
    from keras_srt.neighborhoods.registry import NEIGHBORHOODS

    if not isinstance(stages, list | tuple) or len(stages) < 2:
        allowed = 'a list of two or more neighborhoods, such as [{"name": "linf", …}, …]'
        raise PydanticCustomError("allowed", "{allowed}", {"allowed": allowed})
    built: list[Neighborhood] = []
    problems: list[str] = []
    for index, stage in enumerate(stages):
        try:
            built.append(stage if isinstance(stage, Neighborhood) else NEIGHBORHOODS.build(stage))
        except InvalidSettings as error:
            problems += error.with_prefix(f"[{index}]").problems
    if problems:
        raise InvalidSettings(problems)
    return tuple(built)


@component
class Composite(Neighborhood):
    """T = T_n ∘ … ∘ T_1: the stages in order, each with its own range.

    Pixel then spatial is the patent's T₁, spatial then pixel its T₂. Any number and order of
    stages is allowed. There are two ways to search:

    "sequential" searches each stage from the result of the previous stage. For T₁: the worst r
    at the untransformed image, then the worst transform of x + r. For T₂: the worst transform,
    then the worst r around the transformed image.

    "joint" takes the first stage with a search by candidates (spatial, color with random
    draws, noise with several draws). For each of its candidates θ, the other stages are
    searched: those before it through T(·;θ), max_r loss(A(x + r) + B), and those after it
    around T(x;θ), max_r loss(A x + B + r). The worst combination is returned; θ = 0 and the
    unperturbed image are candidates, too. This search is stronger and repeats the search of
    the other stages for each candidate.
    Source: patent CN111401445A, claims 7-9 and [0207]-[0210]; Li et al. 2022, section 3.3;
    joint: the paper's code.

    Args:
        stages: Two or more neighborhoods, in the order of application.
        mode: "sequential" or "joint".

    Example:
        >>> from keras_srt.neighborhoods import LInf, Spatial
        >>> both = Composite(stages=(LInf(epsilon=0.3), Spatial()))
        >>> both.describe()["order"]
        'pixel -> spatial'
    """

    name: ClassVar[str] = "composite"
    kind: ClassVar[str] = "composite"

    stages: Annotated[Sequence[Neighborhood], BeforeValidator(build_stages)] = field(kw_only=False)
    mode: Literal["sequential", "joint"] = "sequential"

    def __post_init__(self) -> None:
        if self.mode == "joint" and not any(map(candidate_search_of, self.stages)):
            names = ", ".join(stage.name for stage in self.stages)
            raise InvalidSettings(
                [
                    f"mode: got 'joint' with the stages {names}; allowed: 'sequential', or a stage "
                    "that is searched by candidates: spatial, color with search 'random', or "
                    "noise with several num_samples"
                ]
            )

    @property
    @override
    def solver(self) -> SequentialSearch | JointSearch:
        return SequentialSearch(self.stages) if self.mode == "sequential" else JointSearch(self)

    @override
    def with_max_steps(self, max_steps: int) -> Composite:
        stages = tuple(stage.with_max_steps(max_steps) for stage in self.stages)
        return dataclasses.replace(self, stages=stages)

    @override
    def apply(self, images: tf.Tensor, parameters: tuple[Any, ...]) -> tf.Tensor:
        """Compute T_n(… T_1(x;θ_1) …;θ_n); `parameters` has one entry per stage."""
        for stage, own in zip(self.stages, parameters, strict=True):
            images = stage.apply(images, own)
        return images

    @override
    def identity(self, images: tf.Tensor) -> tuple[Any, ...]:
        return tuple(stage.identity(images) for stage in self.stages)

    @override
    def sample(self, images: tf.Tensor, seed: Seed, scale: Scale = 1.0) -> tuple[Any, ...]:
        return tuple(
            stage.sample(images, fold(seed, index), scale)
            for index, stage in enumerate(self.stages)
        )

    @override
    def contains(self, parameters: tuple[Any, ...], scale: Scale = 1.0) -> tf.Tensor:
        inside = [
            stage.contains(own, scale) for stage, own in zip(self.stages, parameters, strict=True)
        ]
        return tf.reduce_all(tf.stack(inside), axis=0)

    @override
    def relative_size(self, parameters: tuple[Any, ...]) -> np.ndarray:
        """Return the maximum over the stages: float64 [batch]."""
        each = [
            stage.relative_size(own) for stage, own in zip(self.stages, parameters, strict=True)
        ]
        return np.max(each, axis=0)

    @property
    @override
    def range(self) -> str:
        return "; then ".join(stage.range for stage in self.stages_in_order)

    @property
    @override
    def stages_in_order(self) -> tuple[Neighborhood, ...]:
        """The stages, with those of nested composites in their place."""
        return tuple(single for stage in self.stages for single in stage.stages_in_order)
