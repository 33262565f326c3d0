"""What a config amounts to: batch sizes, steps, passes through the model, time."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from keras_srt.config.schema import Config
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.formatting import format_duration
from keras_srt.core.tensorflow import keras, tf
from keras_srt.data import BatchSizes, DatasetInfo, Sizes, Streaming, batch_sizes, split_sizes
from keras_srt.objectives import StepPasses
from keras_srt.pipeline.distribution import Distribution
from keras_srt.training.schedules import SearchGrowth, check_weight_warmup

if TYPE_CHECKING:
    from keras_srt.training.model import RobustModel

# A timed step should take about this long at most; a larger one is timed on fewer images.
_TIMED_SECONDS = 10.0


class Plan(NamedTuple):
    """Numbers derived from a config and the size of its dataset.

    Attributes:
        num_labeled: |L|.
        num_unlabeled: |U|, 0 where the objective uses none.
        num_validation: images held back to choose the best checkpoint.
        sizes: labeled and unlabeled images of a batch.
        steps: optimizer steps of the whole training.
        interval: steps between validations and checkpoints.
        strength_steps: steps over which the neighborhood grows to its full size.
        passes: image passes of a step with the full search.
        teacher_steps: steps of the teacher that is trained before, 0 for none; each is a
            training pass over a whole batch of labeled images.
        growth_steps: steps over which the search grows to all its rounds.
        weight_steps: steps over which the weight λ grows.
        cost_ratio: The mean cost of a step, divided by the cost with the full search.
    """

    num_labeled: int
    num_unlabeled: int
    num_validation: int
    sizes: BatchSizes
    steps: int
    interval: int
    strength_steps: int
    passes: StepPasses
    teacher_steps: int = 0
    growth_steps: int = 0
    weight_steps: int = 0
    cost_ratio: float = 1.0

    @property
    def labeled_passes(self) -> float:
        """Passes over the labeled images that a step makes."""
        return self.sizes.labeled / self.num_labeled

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over the labeled images."""
        return math.ceil(self.num_labeled / self.sizes.labeled)


class Segment(NamedTuple):
    """A call of `fit`: Keras' epochs are our intervals, which all have the same length."""

    first_step: int
    initial_epoch: int
    epochs: int
    steps_per_epoch: int


def make_plan(config: Config, info: DatasetInfo) -> Plan:
    """Derives the plan of a run.

    Args:
        config: of the run.
        info: of its dataset.

    Returns:
        The plan.

    Raises:
        InvalidSettings: a batch can't hold a labeled image, the split can't be drawn, or the
            objective can't use the neighborhood or lacks unlabeled images.
    """
    data, training, objective = config.data, config.training, config.objective
    objective.check(config.neighborhood)
    split = split_sizes(
        info.num_train,
        len(info.class_names),
        data.labeled,
        data.validation,
        data.unlabeled,
        info.num_labeled,
    )
    unlabeled = _num_unlabeled(config, split)
    labeled_per_batch = training.labeled_per_batch
    if labeled_per_batch is None and objective.labeled_share is not None:
        labeled_per_batch = round(training.batch_size * objective.labeled_share)
    sizes = batch_sizes(training.batch_size, split.labeled, unlabeled, labeled_per_batch)
    if data.shuffle_buffer is not None and unlabeled:
        Streaming(data.shuffle_buffer, data.readers).check(sizes)
    epoch = math.ceil(split.labeled / sizes.labeled)
    steps = training.length * (1 if training.epochs is None else epoch)
    by_default = epoch if epoch >= 100 else math.ceil(steps / 20)
    growth_steps = round(training.search_growth * steps)
    growth = SearchGrowth.over(growth_steps, objective, config.neighborhood)
    weight_steps = round(training.weight_warmup * steps)
    check_weight_warmup(objective, weight_steps)
    passes = objective.passes(config.neighborhood, *sizes)
    return Plan(
        num_labeled=split.labeled,
        num_unlabeled=unlabeled,
        num_validation=split.validation,
        sizes=sizes,
        steps=steps,
        interval=min(steps, training.interval or by_default),
        strength_steps=round(training.strength_warmup * steps),
        passes=passes,
        teacher_steps=(objective.teacher_steps or steps) if objective.uses_teacher else 0,
        growth_steps=growth_steps,
        weight_steps=weight_steps,
        cost_ratio=growth.mean_cost(steps, *sizes) / passes.relative_cost,
    )


def _num_unlabeled(config: Config, split: Sizes) -> int:
    """|U|, 0 for objectives that use none."""
    objective = config.objective
    if not objective.uses_unlabeled:
        return 0
    if split.unlabeled == 0:
        raise InvalidSettings(
            [
                f"data: got no unlabeled images, all {sum(split)} are labeled or for "
                f"validation, with the objective {objective.name!r}; allowed: fewer of these, or "
                f"the objective {objective.without_unlabeled!r}, which is the same without "
                "unlabeled images"
            ]
        )
    return split.unlabeled


def segments(plan: Plan, first_step: int) -> list[Segment]:
    """The calls of `fit` that lead from a step to the end of training.

    After an interruption the interval that was cut is finished first, and the last one
    may be shorter, so that validations fall on the same steps as without.

    Args:
        plan: of the run.
        first_step: how many steps are done.

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


def learning_rate(config: Config, plan: Plan) -> Any:
    """The learning rate or its Keras schedule."""
    training, schedule = config.training, config.training.schedule
    schedules = keras.optimizers.schedules
    warmup = round((schedule.warmup or 0.0) * plan.steps)
    rate: Any = training.learning_rate
    if schedule.name == "step":
        unit = plan.steps_per_epoch if training.epochs is not None else 1
        # Keras counts the boundary itself to what comes before it.
        boundaries = [milestone * unit - 1 for milestone in schedule.milestones]
        values = [rate * schedule.factor**i for i in range(len(boundaries) + 1)]
        rate = schedules.PiecewiseConstantDecay(boundaries, values)
    if schedule.name == "cosine":
        return schedules.CosineDecay(
            0.0 if warmup else rate,
            max(1, plan.steps - warmup),
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
        )
    if not warmup:
        return rate
    from keras_srt.training.optimization import Warmup

    return Warmup(rate, warmup)


class StepTime(NamedTuple):
    """A timed training step.

    Attributes:
        seconds: of a step on a whole batch.
        timed_on: images of the batch that was timed; fewer where a whole one takes long.
    """

    seconds: float
    timed_on: int


def time_step(
    model: RobustModel, plan: Plan, info: DatasetInfo, distribution: Distribution | None = None
) -> StepTime:
    """Times one training step on random images and leaves the model as it was.

    Args:
        model: compiled.
        plan: of the run.
        info: of its dataset.
        distribution: the devices that share a batch; None for one.

    Returns:
        The time of a step on this machine.
    """
    distribution = distribution or Distribution.make("one_device")
    replicas = distribution.replicas
    share = min(1.0, replicas * _timed_share(model, plan, info)) / replicas
    sizes = BatchSizes(*(math.ceil(size * share) for size in plan.sizes))
    batch = _random_batch(sizes, info, model.objective.uses_teacher)
    batches = iter(distribution.spread(lambda _: tf.data.Dataset.from_tensors(batch).repeat()))
    model.make_train_function()
    before = model.classifier.get_weights()
    model.optimizer.build(model.classifier.trainable_variables)
    variables = [*model.optimizer.variables, *model.update.variables]
    state = [variable.numpy() for variable in variables]
    model.optimizer.iterations.assign(plan.steps)  # when the search is full
    model.train_function(batches)  # traces
    began = time.perf_counter()
    model.train_function(batches)
    seconds = time.perf_counter() - began
    model.classifier.set_weights(before)
    for variable, value in zip(variables, state, strict=True):
        variable.assign(value)
    model.reset_metrics()
    images = replicas * sum(sizes)
    return StepTime(seconds * sum(plan.sizes) / images, images)


def _timed_share(model: RobustModel, plan: Plan, info: DatasetInfo) -> float:
    """The share of a batch on which a step stays below `_TIMED_SECONDS`."""
    images = tf.zeros([4, *info.input_shape])
    model.classifier(images, training=False)
    began = time.perf_counter()
    model.classifier(images, training=False)
    forward = (time.perf_counter() - began) / len(images)
    return min(1.0, _TIMED_SECONDS / (forward * plan.passes.relative_cost))


def _random_batch(sizes: BatchSizes, info: DatasetInfo, pseudo_labels: bool) -> dict[str, Any]:
    generator = np.random.default_rng(0)

    def images(count: int) -> tf.Tensor:
        return tf.constant(generator.random((count, *info.input_shape), dtype=np.float32))

    def labels(count: int) -> tf.Tensor:
        return tf.constant(generator.integers(len(info.class_names), size=count, dtype=np.int32))

    batch: dict[str, Any] = {"labeled": (images(sizes.labeled), labels(sizes.labeled))}
    if sizes.unlabeled:
        batch["unlabeled"] = images(sizes.unlabeled)
    if pseudo_labels:
        batch["pseudo_labels"] = labels(sizes.unlabeled)
    return batch


def estimate(plan: Plan, step: StepTime) -> str:
    """The cost of the training in words: images and passes of a step, steps, time."""
    sizes, passes = plan.sizes, plan.passes
    total = format_duration(training_seconds(plan, step))
    timed = f", timed on {step.timed_on} images" if step.timed_on < sum(sizes) else ""
    return (
        f"{_teacher_estimate(plan, step)}"
        f"batch     {sizes.labeled} labeled + {sizes.unlabeled} unlabeled images "
        f"(of {plan.num_labeled:,} and {plan.num_unlabeled:,})\n"
        f"step      {passes.forward:,} forward, {passes.gradient:,} forward + input-gradient, "
        f"{passes.training:,} training image passes\n"
        f"training  {plan.steps:,} steps = {plan.steps * plan.labeled_passes:.1f} passes over "
        f"the labeled images, validation every {plan.interval:,} steps\n"
        f"time      about {total} of training on this machine "
        f"({step.seconds:.2f} s a step{timed}{_growing(plan)}), plus validation and evaluation"
    )


def training_seconds(plan: Plan, step: StepTime) -> float:
    """How long the steps of a training take together."""
    return plan.steps * plan.cost_ratio * step.seconds


def _growing(plan: Plan) -> str:
    """What the growth of the search saves, if it grows."""
    if not plan.growth_steps:
        return ""
    return f" with the full search, {100 * plan.cost_ratio:.0f}% of that on average"


def _teacher_estimate(plan: Plan, step: StepTime) -> str:
    """The line on the teacher, if there is one."""
    if not plan.teacher_steps:
        return ""
    images = sum(plan.sizes)
    share = StepPasses(0, 0, images).relative_cost / plan.passes.relative_cost
    seconds = format_duration(plan.teacher_steps * share * step.seconds)
    return (
        f"teacher   {plan.teacher_steps:,} steps before it, each {images:,} training image passes "
        f"over labeled images: about {seconds}; then "
        f"it labels {plan.num_unlabeled:,} images\n"
    )
