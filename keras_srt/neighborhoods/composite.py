"""Composite perturbations: several neighborhoods, one after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods.base import Neighborhood, Passes, PerExampleLoss, Perturbed, repeat
from keras_srt.neighborhoods.draws import Seed, fold
from keras_srt.neighborhoods.search import CandidateSearch, Worst, keep_worse


def _build_stages(stages: Any) -> tuple[Neighborhood, ...]:
    # Here and not above, because the registry lists Composite itself.
    from keras_srt.neighborhoods import NEIGHBORHOODS

    if not isinstance(stages, list | tuple) or len(stages) < 2:
        allowed = 'a list of two or more neighborhoods, such as [{"name": "linf", …}, …]'
        raise PydanticCustomError("allowed", "{allowed}", {"allowed": allowed})
    built: list[Neighborhood] = []
    problems: list[str] = []
    for index, stage in enumerate(stages):
        try:
            built.append(stage if isinstance(stage, Neighborhood) else NEIGHBORHOODS.build(stage))
        except InvalidSettings as error:
            problems += error.under(f"[{index}]").problems
    if problems:
        raise InvalidSettings(problems)
    return tuple(built)


@component
class Composite(Neighborhood):
    """T = T_n ∘ … ∘ T_1: the stages in order, each with its own range.

    Pixel then spatial is the patent's T₁, spatial then pixel its T₂; any number and order of
    stages is allowed. There are two ways to search:

    "sequential": each stage from where the last one ended. T₁ is the worst r at the
    untransformed image, then the worst transform of x + r; T₂ the worst transform, then the
    worst r around it.

    "joint": for each candidate θ of one stage, the first that is searched by candidates
    (spatial, color by draws, noise of several draws), the other stages are searched for
    this θ: through T(·;θ) those before it, max_r loss(A(x + r) + B), and around T(x;θ) those
    after it, max_r loss(A x + B + r). The worst pair wins; θ = 0 and the image itself are
    candidates, too. This is stronger, and costs the other stages' search once a candidate.
    Source: patent CN111401445A, claims 7-9 and [0207]-[0210]; Li et al. 2022, section 3.3;
    joint: the paper's code.

    Args:
        stages: the neighborhoods, first applied first; each has its own range.
        mode: "sequential" or "joint".

    Example:
        >>> from keras_srt.neighborhoods import LInf, Spatial
        >>> both = Composite(stages=(LInf(epsilon=0.3), Spatial()))
        >>> both.describe()["order"]
        'pixel -> spatial'
    """

    name: ClassVar[str] = "composite"
    kind: ClassVar[str] = "composite"

    stages: Annotated[Sequence[Neighborhood], BeforeValidator(_build_stages)] = field(kw_only=False)
    mode: Literal["sequential", "joint"] = "sequential"

    def __post_init__(self) -> None:
        if self.mode == "joint" and not any(map(_num_candidates, self.stages)):
            names = ", ".join(stage.name for stage in self.stages)
            raise InvalidSettings(
                [
                    f"mode: got 'joint' with the stages {names}; allowed: 'sequential', or a stage "
                    "that is searched by candidates: spatial, color with search 'random', or "
                    "noise with several num_samples"
                ]
            )

    def maximize(
        self,
        images: tf.Tensor,
        loss_fn: PerExampleLoss,
        seed: Seed,
        scale: float | tf.Tensor = 1.0,
        start_loss: tf.Tensor | None = None,
    ) -> Perturbed:
        """Searches the stages in turn or jointly; see `Neighborhood.maximize`."""
        seeds = [fold(seed, index) for index in range(len(self.stages))]
        if self.mode == "sequential":
            return _in_turn(self.stages, images, loss_fn, seeds, scale, start_loss)
        images = tf.convert_to_tensor(images)
        outer, stage = self._outer
        # The same seeds for every candidate: among them is then what "sequential" finds when
        # the stage of the candidates is the first.
        candidate = stage.candidates(images, seeds[outer], scale)

        def attempt(tried: tf.Tensor, worst: Worst) -> Worst:
            before = _in_turn(
                self.stages[:outer],
                images,
                lambda moved: loss_fn(stage.apply(moved, tried)),
                seeds[:outer],
                scale,
                None,
            )
            after = _in_turn(
                self.stages[outer + 1 :],
                stage.apply(before.images, tried),
                loss_fn,
                seeds[outer + 1 :],
                scale,
                before.loss,
            )
            loss = loss_fn(after.images) if after.loss is None else after.loss
            return keep_worse((*before.parameters, tried, *after.parameters), loss, worst)

        worst = (self.unchanged(images), loss_fn(images) if start_loss is None else start_loss)
        worst = attempt(stage.unchanged(images), worst)
        parameters, loss = repeat(
            stage.num_candidates,
            lambda index, worst: attempt(candidate(index), worst),
            worst,
            size=sum(self._passes_a_candidate),
        )
        return Perturbed(self.apply(images, parameters), parameters, loss)

    def apply(self, images: tf.Tensor, parameters: tuple[Any, ...]) -> tf.Tensor:
        """T_n(… T_1(x;θ_1) …;θ_n); one entry of `parameters` for each stage."""
        for stage, its_own in zip(self.stages, parameters, strict=True):
            images = stage.apply(images, its_own)
        return images

    def unchanged(self, images: tf.Tensor) -> tuple[Any, ...]:
        """Each stage's own."""
        return tuple(stage.unchanged(images) for stage in self.stages)

    def contains(self, parameters: tuple[Any, ...], scale: float | tf.Tensor = 1.0) -> tf.Tensor:
        """Whether every stage keeps to its own range: bool [batch]."""
        inside = [
            stage.contains(its_own, scale)
            for stage, its_own in zip(self.stages, parameters, strict=True)
        ]
        return tf.reduce_all(tf.stack(inside), axis=0)

    def relative_size(self, parameters: tuple[Any, ...]) -> np.ndarray:
        """The largest of the stages' own: float64 [batch]."""
        each = [
            stage.relative_size(own) for stage, own in zip(self.stages, parameters, strict=True)
        ]
        return np.max(each, axis=0)

    @property
    def rounds(self) -> int:
        """Those of the stage that makes most."""
        return max(stage.rounds for stage in self.stages)

    def with_max_steps(self, rounds: int) -> Composite:
        """Every stage shortened."""
        stages = tuple(stage.with_max_steps(rounds) for stage in self.stages)
        return dataclasses.replace(self, stages=stages)

    @property
    def _outer(self) -> tuple[int, CandidateSearch]:
        """The place of the stage whose candidates the joint search goes through, and the stage."""
        return next(
            (index, stage)
            for index, stage in enumerate(self.stages)
            if isinstance(stage, CandidateSearch) and stage.num_candidates
        )

    @property
    def _passes_a_candidate(self) -> Passes:
        """What the joint search costs for one candidate."""
        outer, _ = self._outer
        others = (*self.stages[:outer], *self.stages[outer + 1 :])
        cost = _passes_in_turn(others, known=False)
        return cost if others[-1].knows_loss else cost._replace(forward=cost.forward + 1)

    @property
    def passes(self) -> Passes:
        """The sum over the stages; if joint, once for each candidate and for θ = 0."""
        if self.mode == "sequential":
            return _passes_in_turn(self.stages, known=True)
        times = 1 + self._outer[1].num_candidates
        forward, gradient = self._passes_a_candidate
        return Passes(times * forward, times * gradient)

    @property
    def wants_start(self) -> bool:
        """Whether the first stage does; a joint search always does."""
        return self.mode == "joint" or self.stages[0].wants_start

    @property
    def knows_loss(self) -> bool:
        """Whether the last stage does; a joint search always does."""
        return self.mode == "joint" or self.stages[-1].knows_loss

    @property
    def range(self) -> str:
        """Each stage's range, in order."""
        return "; then ".join(stage.range for stage in self.stages_in_order)

    @property
    def stages_in_order(self) -> tuple[Neighborhood, ...]:
        """The stages, those of composites among them spelled out."""
        return tuple(single for stage in self.stages for single in stage.stages_in_order)


def _num_candidates(stage: Neighborhood) -> int:
    return stage.num_candidates if isinstance(stage, CandidateSearch) else 0


def _in_turn(
    stages: Sequence[Neighborhood],
    images: tf.Tensor,
    loss_fn: PerExampleLoss,
    seeds: Sequence[Seed],
    scale: float | tf.Tensor,
    loss: tf.Tensor | None,
) -> Perturbed:
    """Each stage's search from where the last one ended; `loss` is that at `images`, if known."""
    parameters = []
    for stage, seed in zip(stages, seeds, strict=True):
        found = stage.maximize(images, loss_fn, seed, scale, loss)
        parameters.append(found.parameters)
        images, loss = found.images, found.loss
    return Perturbed(images, tuple(parameters), loss)


def _passes_in_turn(stages: Sequence[Neighborhood], known: bool) -> Passes:
    """What `_in_turn` costs, with the loss at the start known or not."""
    forward = 0
    for stage in stages:
        forward += stage.passes.forward + (1 if stage.wants_start and not known else 0)
        known = stage.knows_loss
    return Passes(forward, sum(stage.passes.gradient for stage in stages))
