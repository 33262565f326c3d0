"""What grows in the course of a training: the rounds of the search, and the weight λ."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import Neighborhood
from keras_srt.objectives import Batch, LossTerm, Objective, StepPasses
from keras_srt.objectives.base import Classifier


class Level(NamedTuple):
    """A part of the training in which the search makes a number of rounds.

    Attributes:
        first_step: from which on.
        objective: with the draws that it asks for itself cut to the rounds.
        neighborhood: with its search cut to the rounds.
    """

    first_step: int
    objective: Objective
    neighborhood: Neighborhood | None


@dataclasses.dataclass(frozen=True)
class SearchGrowth:
    """The search of a training, which grows from one round to all K of them.

    At step t it makes the largest power of 2 that is at most K·t/steps, and all K from `steps`
    on. Powers of 2, so that all levels together, each unrolled in one trace, make a graph
    of about twice the size.

    Args:
        levels: in order; the last one is the full search.

    Source: fewer steps early in training, as Cai et al. 2018 (Curriculum adversarial training).
    """

    levels: tuple[Level, ...]

    @classmethod
    def over(
        cls, steps: int, objective: Objective, neighborhood: Neighborhood | None
    ) -> SearchGrowth:
        """The growth over a number of steps.

        Args:
            steps: until the search is full; 0 for the full search at once.
            objective: of the training.
            neighborhood: where it searches.

        Returns:
            The growth.

        Raises:
            InvalidSettings: there is nothing to grow.

        Example:
            >>> from keras_srt.neighborhoods import LInf
            >>> from keras_srt.objectives import SRT
            >>> growth = SearchGrowth.over(700, SRT(), LInf(epsilon=0.3, num_steps=7))
            >>> [(level.first_step, level.neighborhood.num_steps) for level in growth.levels]
            [(0, 1), (200, 2), (400, 4), (700, 7)]
        """
        if steps == 0:
            return cls((Level(0, objective, neighborhood),))
        most = _rounds(objective, neighborhood)
        if neighborhood is None or most == 1:
            raise InvalidSettings(
                [
                    f"training.search_growth: got a growing search with the objective "
                    f"{objective.name!r}, which searches in one round or not at all; allowed: 0, "
                    "or a neighborhood that is searched by several gradient steps or draws"
                ]
            )
        powers = [2**i for i in range(most.bit_length()) if 2**i < most]
        levels = [
            Level(
                -(-steps * rounds // most) if rounds > 1 else 0,
                objective.with_max_steps(rounds),
                neighborhood.with_max_steps(rounds),
            )
            for rounds in powers
        ]
        return cls((*levels, Level(steps, objective, neighborhood)))

    def prepare(
        self,
        classifier: Classifier,
        batch: Batch,
        seed: tf.Tensor,
        scale: float | tf.Tensor,
        step: tf.Tensor,
    ) -> Any:
        """`Objective.prepare` at the level of a step, an int64 scalar."""
        branches = [
            functools.partial(
                level.objective.prepare, classifier, batch, level.neighborhood, seed, scale
            )
            for level in self.levels
        ]
        if len(branches) == 1:
            return branches[0]()
        begun = [tf.cast(step >= level.first_step, tf.int32) for level in self.levels[1:]]
        return tf.switch_case(tf.add_n(begun), branches)

    def passes(self, steps: int, labeled: int, unlabeled: int) -> list[tuple[int, StepPasses]]:
        """What the steps of a training cost.

        Args:
            steps: of the whole training.
            labeled: images of a batch.
            unlabeled: images of a batch.

        Returns:
            Number of steps and the passes of each of them, level by level.
        """
        begins = [level.first_step for level in self.levels]
        return [
            (end - begin, level.objective.passes(level.neighborhood, labeled, unlabeled))
            for begin, end, level in zip(begins, [*begins[1:], steps], self.levels, strict=True)
        ]


def _rounds(objective: Objective, neighborhood: Neighborhood | None) -> int:
    """K, the most rounds that a loop of the search makes."""
    if neighborhood is None or not objective.uses_neighborhood:
        return 1
    return objective.searched(neighborhood).rounds


def check_weight_warmup(objective: Objective, steps: int) -> None:
    """Refuses to grow a weight that the objective doesn't have.

    Args:
        objective: of the training.
        steps: over which the weight grows, 0 for not at all.

    Raises:
        InvalidSettings: it has none.
    """
    if steps and not objective.warmed_terms:
        raise InvalidSettings(
            [
                f"training.weight_warmup: got a growing weight with the objective "
                f"{objective.name!r}; allowed: 0, or an objective with a robust_weight"
            ]
        )


def warmed(
    objective: Objective, terms: dict[str, LossTerm], share: tf.Tensor
) -> dict[str, LossTerm]:
    """The loss terms of an objective, those of weight λ with share·λ.

    Args:
        objective: says which ones these are.
        terms: by their names.
        share: float32 scalar in [0, 1].

    Returns:
        The terms.
    """
    return {
        name: term._replace(weight=share * term.weight) if name in objective.warmed_terms else term
        for name, term in terms.items()
    }
