"""Schedules over the training: the number of search steps, and the weight λ."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

from keras_srt.config.schema import TrainingSettings
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import keras, tf
from keras_srt.neighborhoods import Neighborhood
from keras_srt.objectives import Batch, LossTerm, Objective
from keras_srt.objectives.base import Classifier


class Level(NamedTuple):
    """A phase of the training with a fixed limit for the steps of the search.

    Attributes:
        first_step: The first training step of the phase.
        objective: The objective, with its own random draws limited.
        neighborhood: The neighborhood, with the steps of its solver limited.
    """

    first_step: int
    objective: Objective
    neighborhood: Neighborhood | None


@dataclasses.dataclass(frozen=True)
class SearchGrowth:
    """A search that grows from one step to K steps (gradient steps or random draws).

    At training step t, the search makes the largest power of 2 that is at most K·t/steps, and
    K from `steps` on. With powers of 2, the graph that holds all levels, each unrolled, is only
    about twice as large.

    Args:
        levels: The levels in order; the last level is the full search.

    Source: Cai et al. 2018 (Curriculum adversarial training).
    """

    levels: tuple[Level, ...]

    @classmethod
    def over(
        cls, steps: int, objective: Objective, neighborhood: Neighborhood | None
    ) -> SearchGrowth:
        """Make the levels of a growth over a number of training steps.

        Args:
            steps: The training step at which the search is full; 0 for no growth.
            objective: The training objective.
            neighborhood: The neighborhood to search.

        Returns:
            The growth.

        Raises:
            InvalidSettings: The search has one step only, or there is no search.

        Example:
            >>> from keras_srt.neighborhoods import LInf
            >>> from keras_srt.objectives import SRT
            >>> growth = SearchGrowth.over(700, SRT(), LInf(epsilon=0.3, num_steps=7))
            >>> [(level.first_step, level.neighborhood.num_steps) for level in growth.levels]
            [(0, 1), (200, 2), (400, 4), (700, 7)]
        """
        if steps == 0:
            return cls((Level(0, objective, neighborhood),))
        most = _max_steps(objective, neighborhood)
        if neighborhood is None or most == 1:
            raise InvalidSettings(
                [
                    f"training.search_growth: got a growing search with the objective "
                    f"{objective.name!r}, which searches in one step or not at all; allowed: 0, "
                    "or a neighborhood with several gradient steps or random draws"
                ]
            )
        powers = [2**i for i in range(most.bit_length()) if 2**i < most]
        levels = [
            Level(
                -(-steps * power // most) if power > 1 else 0,
                objective.with_max_steps(power),
                neighborhood.with_max_steps(power),
            )
            for power in powers
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
        """Call `Objective.prepare` with the level of a training step (int64 scalar)."""
        branches = [
            functools.partial(
                level.objective.prepare, classifier, batch, level.neighborhood, seed, scale
            )
            for level in self.levels
        ]
        if len(branches) == 1:
            return branches[0]()
        reached = [tf.cast(step >= level.first_step, tf.int32) for level in self.levels[1:]]
        return tf.switch_case(tf.add_n(reached), branches)

    def mean_cost(self, steps: int, labeled: int, unlabeled: int) -> float:
        """Average the cost of a training step over the training.

        Args:
            steps: Training steps.
            labeled: Labeled images in a batch.
            unlabeled: Unlabeled images in a batch.

        Returns:
            The mean of `StepPasses.relative_cost`.
        """
        total, ends = 0.0, [level.first_step for level in self.levels[1:]] + [steps]
        for level, end in zip(self.levels, ends, strict=True):
            cost = level.objective.passes(level.neighborhood, labeled, unlabeled).relative_cost
            total += (end - level.first_step) * cost
        return total / steps


def _max_steps(objective: Objective, neighborhood: Neighborhood | None) -> int:
    """Return K, the steps of the longest loop in the search."""
    if neighborhood is None or not objective.uses_neighborhood:
        return 1
    return objective.searched(neighborhood).solver.max_steps


def check_weight_warmup(objective: Objective, steps: int) -> None:
    """Refuse a warmup of λ for an objective without λ.

    Args:
        objective: The training objective.
        steps: Training steps over which λ grows; 0 for no warmup.

    Raises:
        InvalidSettings: The objective has no term with the weight λ.
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
    """Replace λ by share·λ in the loss terms of an objective.

    Args:
        objective: The objective; its `warmed_terms` have the weight λ.
        terms: Loss terms by name.
        share: float32 scalar in [0, 1].

    Returns:
        The loss terms.
    """
    return {
        name: term._replace(weight=share * term.weight) if name in objective.warmed_terms else term
        for name, term in terms.items()
    }


def learning_rate(training: TrainingSettings, steps: int, steps_per_epoch: int) -> Any:
    """Make the learning rate of a training.

    Args:
        training: The settings.
        steps: The steps of the training.
        steps_per_epoch: The steps of a pass over the labeled images, the unit of milestones if
            the length is set in epochs.

    Returns:
        A float, or a Keras schedule.
    """
    schedule, schedules = training.schedule, keras.optimizers.schedules
    warmup = round((schedule.warmup or 0.0) * steps)
    rate: Any = training.learning_rate
    if schedule.name == "step":
        unit = steps_per_epoch if training.epochs is not None else 1
        # Keras still uses the value before a boundary at the boundary itself.
        boundaries = [milestone * unit - 1 for milestone in schedule.milestones]
        values = [rate * schedule.factor**i for i in range(len(boundaries) + 1)]
        rate = schedules.PiecewiseConstantDecay(boundaries, values)
    if schedule.name == "cosine":
        return schedules.CosineDecay(
            0.0 if warmup else rate,
            max(1, steps - warmup),
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
        )
    from keras_srt.training.optimization import LinearDecay, Warmup

    if schedule.name == "linear":
        rate = LinearDecay(rate, warmup + round(schedule.hold * steps), steps)
    return Warmup(rate, warmup) if warmup else rate
