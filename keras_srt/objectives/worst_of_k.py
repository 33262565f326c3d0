"""Objectives with a search by k random draws: worst-of-k and KL regularization."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Annotated, Any, ClassVar

from typing_extensions import override

from keras_srt.core import validation
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import component
from keras_srt.neighborhoods import Neighborhood
from keras_srt.objectives import losses
from keras_srt.objectives.base import Objective
from keras_srt.objectives.supervised import Adversarial
from keras_srt.objectives.trades import Consistency


def worst_of(neighborhood: Neighborhood, num_samples: int) -> Neighborhood:
    """Return the same neighborhood with a search by k random draws in each stage.

    Args:
        neighborhood: A neighborhood whose stages all have the setting `num_samples`.
        num_samples: k.

    Returns:
        A neighborhood of the same range.

    Example:
        >>> from keras_srt.neighborhoods import Spatial
        >>> worst_of(Spatial(search="grid"), 10).solver.num_candidates
        10
    """
    if hasattr(neighborhood, "stages"):
        stages = tuple(worst_of(stage, num_samples) for stage in neighborhood.stages)
        return dataclasses.replace(neighborhood, stages=stages)
    search = {"search": "random"} if hasattr(neighborhood, "search") else {}
    return dataclasses.replace(neighborhood, num_samples=num_samples, **search)


def check_draws(objective: WorstOfK | KLR, neighborhood: Neighborhood) -> None:
    """Refuse a neighborhood without a search by random draws.

    Ten random points of a pixel ball are a much weaker adversary than gradient ascent.

    Args:
        objective: The objective, which searches by draws.
        neighborhood: The neighborhood to search.

    Raises:
        InvalidSettings: A stage has no search by draws; the message names the objective to use.
    """
    stages = neighborhood.stages_in_order
    refused = [stage.name for stage in stages if not hasattr(stage, "num_samples")]
    if refused:
        raise InvalidSettings(
            [
                f"neighborhood: got {refused[0]!r} with the objective {objective.name!r}; allowed: "
                "neighborhoods that are searched by random draws, such as spatial, or the "
                f"objective {objective.by_ascent!r}, which searches this one by gradient ascent"
            ]
        )


@component
class WorstOfK(Adversarial):
    """mean_L max_{i≤k} L(f(x'_i), y), x'_1 … x'_k drawn from N(x): worst-of-k training.

    The unperturbed image is another candidate. The search that the neighborhood is configured
    with (a grid, for example) is used for validation only.
    Source: Engstrom et al. 2019, section 4.

    Args:
        robust_loss: L; see `losses.get`.
        num_samples: k, draws per image and stage.

    Example:
        >>> from keras_srt.neighborhoods import Spatial
        >>> WorstOfK(num_samples=10).passes(Spatial(search="grid"), labeled=128, unlabeled=0)
        StepPasses(forward=1408, gradient=0, training=128)
    """

    name: ClassVar[str] = "worst_of_k"
    by_ascent: ClassVar[str] = "adversarial"

    num_samples: Annotated[int, validation.whole(1)] = 10

    @override
    def check(self, neighborhood: Neighborhood | None) -> None:
        super().check(neighborhood)
        check_draws(self, self.required(neighborhood))

    @override
    def searched(self, neighborhood: Neighborhood) -> Neighborhood:
        return worst_of(neighborhood, self.num_samples)

    @override
    def with_max_steps(self, max_steps: int) -> Objective:
        return dataclasses.replace(self, num_samples=min(self.num_samples, max_steps))


@component
class KLR(Consistency):
    """mean_L L(f(x), y) + λ·mean_L max_{i≤k} KL(f(x)‖f(x'_i)), x'_1 … x'_k drawn from N(x).

    This is TRADES with a search by random draws.
    Source: Yang et al. 2019 (invariance-inducing regularization); k = 10, λ = 1.

    Args:
        robust_weight: λ.
        clean_loss: L; see `losses.get`.
        num_samples: k, draws per image and stage.

    Example:
        >>> from keras_srt.neighborhoods import Spatial
        >>> KLR().passes(Spatial(), labeled=128, unlabeled=0)
        StepPasses(forward=1408, gradient=0, training=256)
    """

    name: ClassVar[str] = "klr"
    by_ascent: ClassVar[str] = "trades"

    robust_weight: Annotated[float, validation.real(0)] = field(default=1.0, kw_only=False)
    clean_loss: Annotated[Any, losses.is_loss_on_labels] = "cross_entropy"
    num_samples: Annotated[int, validation.whole(1)] = 10

    @override
    def check(self, neighborhood: Neighborhood | None) -> None:
        Objective.check(self, neighborhood)  # without the check of TRADES: draws need no gradient
        check_draws(self, self.required(neighborhood))

    @override
    def searched(self, neighborhood: Neighborhood) -> Neighborhood:
        return worst_of(neighborhood, self.num_samples)

    @override
    def with_max_steps(self, max_steps: int) -> Objective:
        return dataclasses.replace(self, num_samples=min(self.num_samples, max_steps))
