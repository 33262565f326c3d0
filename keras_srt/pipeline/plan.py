"""The sizes, steps and segments of a training, derived from its config and dataset."""

from __future__ import annotations

import math
from typing import NamedTuple

from keras_srt.config.schema import Config
from keras_srt.core.errors import InvalidSettings
from keras_srt.data import BatchSizes, DatasetInfo, Sizes, Streaming, batch_sizes, split_sizes
from keras_srt.objectives import StepPasses
from keras_srt.pipeline.teacher_config import teacher_config
from keras_srt.training.schedules import SearchGrowth, check_weight_warmup

# The fraction of the training between validations if an epoch has fewer than that many steps.
_SHORT_EPOCH, _INTERVALS = 100, 20


class Plan(NamedTuple):
    """The numbers that follow from a config and the size of its dataset.

    Attributes:
        num_labeled: |L|.
        num_unlabeled: |U|; 0 for objectives without unlabeled images.
        num_validation: Images held back to select the best checkpoint.
        sizes: Labeled and unlabeled images of a batch.
        steps: Optimizer steps of the training.
        interval: Steps between validations and checkpoints.
        strength_steps: Steps over which the neighborhood grows to its full size.
        passes: Image passes of a step with the full search.
        teacher: The plan of the teacher that is trained first, or None.
        growth_steps: Steps over which the search grows to its full number of rounds.
        weight_steps: Steps over which the weight λ grows.
        freeze_steps: Steps at the start in which only the last layer is trained.
        patience: Validations without improvement after which the training stops; None for never.
        cost_ratio: The mean cost of a step, divided by the cost with the full search and of
            all layers.
    """

    num_labeled: int
    num_unlabeled: int
    num_validation: int
    sizes: BatchSizes
    steps: int
    interval: int
    strength_steps: int
    passes: StepPasses
    teacher: Plan | None = None
    growth_steps: int = 0
    weight_steps: int = 0
    freeze_steps: int = 0
    patience: int | None = None
    cost_ratio: float = 1.0

    @property
    def grown_step(self) -> int:
        """The step from which all layers are trained with the full search and the full loss."""
        return max(self.strength_steps, self.growth_steps, self.weight_steps, self.freeze_steps)

    @property
    def labeled_passes(self) -> float:
        """Passes over the labeled images per step."""
        return self.sizes.labeled / self.num_labeled

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over the labeled images."""
        return math.ceil(self.num_labeled / self.sizes.labeled)


class Segment(NamedTuple):
    """One call of `fit`, whose epochs are intervals of equal length."""

    first_step: int
    initial_epoch: int
    epochs: int
    steps_per_epoch: int


def make_plan(config: Config, info: DatasetInfo) -> Plan:
    """Derive the plan of a run.

    Args:
        config: The run's configuration.
        info: The sizes of its dataset.

    Raises:
        InvalidSettings: A batch has no room for a labeled image, the split can't be drawn, or
            the objective doesn't support the neighborhood or lacks unlabeled images, a model
            without pretrained weights is to be frozen, or validation images are needed.
    """
    data, training, objective = config.data, config.training, config.objective
    objective.check(config.searched)
    _check_freeze(config)
    _check_validation(config)
    split = split_sizes(
        info.num_train,
        len(info.class_names),
        data.labeled,
        data.validation,
        data.unlabeled,
        info.num_labeled,
        data.validation_from,
    )
    unlabeled = _num_unlabeled(config, split)
    sizes = _batch_sizes(config, split.labeled, unlabeled)
    epoch = math.ceil(split.labeled / sizes.labeled)
    steps = training.length * (1 if training.epochs is None else epoch)
    by_default = epoch if epoch >= _SHORT_EPOCH else math.ceil(steps / _INTERVALS)
    growth_steps = round(training.search_growth * steps)
    growth = SearchGrowth.over(growth_steps, objective, config.searched)
    weight_steps = round(training.weight_warmup * steps)
    check_weight_warmup(objective, weight_steps)
    freeze_steps, early = round(training.freeze * steps), training.early_stopping
    passes = objective.passes(config.searched, *sizes)
    saved = freeze_steps / steps * (passes.relative_cost - passes.frozen_cost)
    return Plan(
        num_labeled=split.labeled,
        num_unlabeled=unlabeled,
        num_validation=split.validation,
        sizes=sizes,
        steps=steps,
        interval=min(steps, training.interval or by_default),
        strength_steps=round(training.strength_warmup * steps),
        passes=passes,
        teacher=_teacher_plan(config, info, steps),
        growth_steps=growth_steps,
        weight_steps=weight_steps,
        freeze_steps=freeze_steps,
        patience=None if early is None else early.patience,
        cost_ratio=(growth.mean_cost(steps, *sizes) - saved) / passes.relative_cost,
    )


def _check_freeze(config: Config) -> None:
    if config.training.freeze and not config.model.pretrained:
        raise InvalidSettings(
            [
                f"training.freeze: got {config.training.freeze:g} with the model "
                f"{config.model.name!r} without pretrained weights; allowed: 0, or a model with "
                '"weights" (see docs/own-images.md)'
            ]
        )


def _check_validation(config: Config) -> None:
    if config.data.validation != 0:
        return
    users = {
        "training.early_stopping": config.training.early_stopping is not None,
        "a teacher": config.objective.uses_teacher,
    }
    if names := [name for name, uses in users.items() if uses]:
        raise InvalidSettings(
            [
                f"data.validation: got 0 with {' and '.join(names)}; allowed: null or at least 1, "
                "because validation images select the checkpoint"
            ]
        )


def _teacher_plan(config: Config, info: DatasetInfo, steps: int) -> Plan | None:
    uses_teacher = config.objective.uses_teacher
    if not uses_teacher and (config.teacher or config.training.initial_weights == "teacher"):
        given = "teacher" if config.teacher else "training.initial_weights"
        raise InvalidSettings(
            [
                f"{given}: got a teacher with the objective {config.objective.name!r}, which uses "
                "none; allowed: null or random, or an objective that uses one, such as srt with "
                'pseudo_labels "teacher"'
            ]
        )
    return make_plan(teacher_config(config, steps), info) if uses_teacher else None


def _batch_sizes(config: Config, num_labeled: int, num_unlabeled: int) -> BatchSizes:
    data, training, share = config.data, config.training, config.objective.labeled_share
    labeled_per_batch = training.labeled_per_batch
    if labeled_per_batch is None and share is not None:
        labeled_per_batch = round(training.batch_size * share)
    sizes = batch_sizes(training.batch_size, num_labeled, num_unlabeled, labeled_per_batch)
    if data.shuffle_buffer is not None and num_unlabeled:
        Streaming(data.shuffle_buffer, data.readers).check(sizes)
    return sizes


def _num_unlabeled(config: Config, split: Sizes) -> int:
    objective = config.objective
    if not objective.uses_unlabeled:
        return 0
    if split.unlabeled == 0:
        raise InvalidSettings(
            [
                f"data: got no unlabeled images, all {sum(split)} are labeled or for "
                f"validation, with the objective {objective.name!r}; allowed: fewer of these, or "
                f"the objective {objective.without_unlabeled!r}, its equivalent without "
                "unlabeled images"
            ]
        )
    return split.unlabeled


def segments(plan: Plan, first_step: int) -> list[Segment]:
    """Divide the rest of a training into calls of `fit`.

    After an interruption the interrupted interval is completed first, and the last interval may
    be shorter, so that the validations happen at the same steps as in an uninterrupted run.

    Args:
        plan: The run's plan.
        first_step: The number of steps that are done.

    Returns:
        Up to three segments, in order.
    """
    made, now = [], first_step
    while now < plan.steps:
        index = now // plan.interval
        full = (plan.steps - now) // plan.interval
        if now % plan.interval or not full:
            end = min(plan.steps, (index + 1) * plan.interval)
            made.append(Segment(now, index, index + 1, end - now))
        else:
            end = now + full * plan.interval
            made.append(Segment(now, index, index + full, plan.interval))
        now = end
    return made
