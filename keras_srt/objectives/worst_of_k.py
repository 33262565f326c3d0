"""Objectives that search by k random draws: worst-of-k and its KL regularizer."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Annotated, Any, ClassVar

from keras_srt.core import validation
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import component
from keras_srt.neighborhoods import Neighborhood
from keras_srt.objectives import losses
from keras_srt.objectives.base import Objective
from keras_srt.objectives.supervised import Adversarial
from keras_srt.objectives.trades import Consistency


def worst_of(neighborhood: Neighborhood, num_samples: int) -> Neighborhood:
    """The same neighborhood, searched by the worst of k random draws at each stage.

    Args:
        neighborhood: whose every stage has the setting `num_samples`.
        num_samples: k.

    Returns:
        A neighborhood of the same range.

    Example:
        >>> from keras_srt.neighborhoods import Spatial
        >>> worst_of(Spatial(search="grid"), 10).num_candidates
        10
    """
    if hasattr(neighborhood, "stages"):
        stages = tuple(worst_of(stage, num_samples) for stage in neighborhood.stages)
        return dataclasses.replace(neighborhood, stages=stages)
    search = {"search": "random"} if hasattr(neighborhood, "search") else {}
    return dataclasses.replace(neighborhood, num_samples=num_samples, **search)


def check_draws(objective: WorstOfK | KLR, neighborhood: Neighborhood) -> None:
    """Refuses a neighborhood that isn't searched by draws.

    A random point of a pixel ball is harmless, the more so the more pixels there are; its
    worst of ten is no adversary, and gradient ascent is.

    Args:
        objective: that searches by draws.
        neighborhood: where it would.

    Raises:
        InvalidSettings: a stage has no search by draws; names the objective to use.
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

    The image itself is one more candidate. The neighborhood's own search (a grid, say)
    doesn't matter for training; validation uses it.
    Source: Engstrom et al. 2019, section 4.

    Args:
        robust_loss: L, see `losses.get`.
        num_samples: k, draws for each image and stage.

    Example:
        >>> from keras_srt.neighborhoods import Spatial
        >>> WorstOfK(num_samples=10).passes(Spatial(search="grid"), labeled=128, unlabeled=0)
        StepPasses(forward=1408, gradient=0, training=128)
    """

    name: ClassVar[str] = "worst_of_k"
    by_ascent: ClassVar[str] = "adversarial"

    num_samples: Annotated[int, validation.whole(1)] = 10

    def check(self, neighborhood: Neighborhood | None) -> None:
        """Refuses no neighborhood, and one that isn't searched by draws."""
        super().check(neighborhood)
        check_draws(self, self.required(neighborhood))

    def searched(self, neighborhood: Neighborhood) -> Neighborhood:
        """The worst of k draws."""
        return worst_of(neighborhood, self.num_samples)

    def with_max_steps(self, rounds: int) -> Objective:
        """Fewer draws."""
        return dataclasses.replace(self, num_samples=min(self.num_samples, rounds))


@component
class KLR(Consistency):
    """mean_L L(f(x), y) + λ·mean_L max_{i≤k} KL(f(x)‖f(x'_i)), x'_1 … x'_k drawn from N(x).

    TRADES with a search by draws.
    Source: Yang et al. 2019 (invariance-inducing regularization); k = 10, λ = 1.

    Args:
        robust_weight: λ.
        clean_loss: L, see `losses.get`.
        num_samples: k, draws for each image and stage.

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

    def check(self, neighborhood: Neighborhood | None) -> None:
        """Refuses no neighborhood, and one that isn't searched by draws."""
        Objective.check(self, neighborhood)  # not that of TRADES: draws need no slope
        check_draws(self, self.required(neighborhood))

    def searched(self, neighborhood: Neighborhood) -> Neighborhood:
        """The worst of k draws."""
        return worst_of(neighborhood, self.num_samples)

    def with_max_steps(self, rounds: int) -> Objective:
        """Fewer draws."""
        return dataclasses.replace(self, num_samples=min(self.num_samples, rounds))
