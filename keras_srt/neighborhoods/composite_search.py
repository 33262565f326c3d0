"""Search of composite neighborhoods: stage by stage, or jointly over all stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods.candidate_search import CandidateSearch, Worst, keep_worse
from keras_srt.neighborhoods.draws import Seed, fold
from keras_srt.neighborhoods.solver import Passes, PerExampleLoss, Perturbed, Scale, Solver, repeat

if TYPE_CHECKING:
    from keras_srt.neighborhoods.base import Neighborhood
    from keras_srt.neighborhoods.composite import Composite


def candidate_search_of(stage: Neighborhood) -> CandidateSearch | None:
    """The solver of a stage if it is a search by candidates, else None."""
    return stage.solver if isinstance(stage.solver, CandidateSearch) else None


@dataclasses.dataclass(frozen=True)
class SequentialSearch(Solver):
    """The solver of each stage in order, each from the result of the previous stage.

    Args:
        stages: The stages of the composite.
    """

    stages: Sequence[Neighborhood]

    @override
    def maximize(
        self,
        images: tf.Tensor,
        loss_fn: PerExampleLoss,
        seed: Seed,
        scale: Scale = 1.0,
        start_loss: tf.Tensor | None = None,
    ) -> Perturbed:
        seeds = [fold(seed, index) for index in range(len(self.stages))]
        return self.run(images, loss_fn, seeds, scale, start_loss)

    def run(
        self,
        images: tf.Tensor,
        loss_fn: PerExampleLoss,
        seeds: Sequence[Seed],
        scale: Scale,
        loss: tf.Tensor | None,
    ) -> Perturbed:
        """Search with one seed per stage; `loss` is the loss at `images`, if known."""
        parameters = []
        for stage, seed in zip(self.stages, seeds, strict=True):
            found = stage.maximize(images, loss_fn, seed, scale, loss)
            parameters.append(found.parameters)
            images, loss = found.images, found.loss
        return Perturbed(images, tuple(parameters), loss)

    @override
    def passes(self, start_known: bool = True) -> Passes:
        forward, gradient = 0, 0
        for stage in self.stages:
            one = stage.solver.passes(start_known)
            forward, gradient = forward + one.forward, gradient + one.gradient
            start_known = stage.solver.returns_loss
        return Passes(forward, gradient)

    @property
    @override
    def returns_loss(self) -> bool:
        return self.stages[-1].solver.returns_loss

    @property
    @override
    def max_steps(self) -> int:
        return max(stage.solver.max_steps for stage in self.stages)

    @property
    @override
    def starts_at_image(self) -> bool:
        return self.stages[0].solver.starts_at_image


@dataclasses.dataclass(frozen=True)
class JointSearch(Solver):
    """For each candidate of one stage, a sequential search over the other stages.

    The candidates are those of the first stage with a search by candidates, the outer
    stage, and its θ = 0. The stages before it are searched through the candidate,
    max_r loss(A(x + r) + B); those after it around the result, max_r loss(A x + B + r).
    The worst combination and the unperturbed image are compared, so the loss never decreases.

    Args:
        composite: The set to search.
    """

    composite: Composite

    @property
    def outer_index(self) -> int:
        """The index of the outer stage."""
        stages = self.composite.stages
        return next(i for i, stage in enumerate(stages) if candidate_search_of(stage))

    @property
    def _outer_search(self) -> CandidateSearch:
        searches = map(candidate_search_of, self.composite.stages)
        return next(search for search in searches if search is not None)

    @property
    def _inner_passes(self) -> Passes:
        """Passes per candidate: the other stages, and the final loss if they don't return it."""
        stages, outer = self.composite.stages, self.outer_index
        inner = SequentialSearch((*stages[:outer], *stages[outer + 1 :]))
        forward, gradient = inner.passes(start_known=False)
        return Passes(forward + (not inner.returns_loss), gradient)

    @override
    def maximize(
        self,
        images: tf.Tensor,
        loss_fn: PerExampleLoss,
        seed: Seed,
        scale: Scale = 1.0,
        start_loss: tf.Tensor | None = None,
    ) -> Perturbed:
        images = tf.convert_to_tensor(images)
        composite, stages, outer = self.composite, self.composite.stages, self.outer_index
        stage, search = stages[outer], self._outer_search
        # Every candidate uses the same seeds, so that the result of the sequential search is
        # among the combinations if the outer stage is the first one.
        seeds = [fold(seed, index) for index in range(len(stages))]
        candidate = search.candidates(images, seeds[outer], scale)

        def attempt(tried: Any, worst: Worst) -> Worst:
            before = SequentialSearch(stages[:outer]).run(
                images, lambda moved: loss_fn(stage.apply(moved, tried)), seeds[:outer], scale, None
            )
            after = SequentialSearch(stages[outer + 1 :]).run(
                stage.apply(before.images, tried), loss_fn, seeds[outer + 1 :], scale, before.loss
            )
            loss = loss_fn(after.images) if after.loss is None else after.loss
            return keep_worse((*before.parameters, tried, *after.parameters), loss, worst)

        worst = (composite.identity(images), loss_fn(images) if start_loss is None else start_loss)
        worst = attempt(stage.identity(images), worst)
        parameters, loss = repeat(
            search.num_candidates,
            lambda index, worst: attempt(candidate(index), worst),
            worst,
            num_passes=sum(self._inner_passes),
        )
        return Perturbed(composite.apply(images, parameters), parameters, loss)

    @override
    def passes(self, start_known: bool = True) -> Passes:
        times = 1 + self._outer_search.num_candidates
        forward, gradient = self._inner_passes
        return Passes(times * forward + (not start_known), times * gradient)

    @property
    @override
    def max_steps(self) -> int:
        return max(stage.solver.max_steps for stage in self.composite.stages)

    @property
    @override
    def starts_at_image(self) -> bool:
        return self.composite.stages[0].solver.starts_at_image
