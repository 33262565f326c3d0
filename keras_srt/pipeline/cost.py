"""The cost of a training on this machine: image passes and a timed step."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from keras_srt.core.tensorflow import tf
from keras_srt.data import BatchSizes, DatasetInfo
from keras_srt.data.sharding import distribute

if TYPE_CHECKING:
    from keras_srt.pipeline.plan import Plan
    from keras_srt.training.model import RobustModel

# If a step would take longer, it is timed on a part of the batch.
_TIMED_SECONDS = 10.0


class StepTime(NamedTuple):
    """A timed training step.

    Attributes:
        seconds: The time of a step on a whole batch.
        timed_on: The number of images that were timed; fewer than a batch if a step is slow.
    """

    seconds: float
    timed_on: int


def time_step(
    model: RobustModel,
    plan: Plan,
    info: DatasetInfo,
    strategy: tf.distribute.Strategy | None = None,
) -> StepTime:
    """Time one training step on random images and restore the model's state.

    Args:
        model: The compiled model.
        plan: The run's plan.
        info: The sizes of its dataset.
        strategy: The strategy of the model; None for one device.

    Returns:
        The time of a step on this machine.
    """
    strategy = strategy or tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    share = min(1.0, replicas * _timed_share(model, plan, info)) / replicas
    sizes = BatchSizes(*(math.ceil(size * share) for size in plan.sizes))
    batch = _random_batch(sizes, info, model.objective.uses_teacher)
    batches = iter(distribute(strategy, lambda _: tf.data.Dataset.from_tensors(batch).repeat()))
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
    """Return the fraction of a batch on which a step takes at most `_TIMED_SECONDS`."""
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


def training_seconds(plan: Plan, step: StepTime) -> float:
    """Estimate the total time of the training steps in seconds."""
    return plan.steps * plan.cost_ratio * step.seconds


def teacher_seconds(plan: Plan, step: StepTime) -> float:
    """Estimate the total time of the teachers' training steps in seconds.

    Args:
        plan: The run's plan.
        step: The timed step of the run.
    """
    if plan.teacher is None:
        return 0.0
    share = plan.teacher.passes.relative_cost / plan.passes.relative_cost
    of_teacher = StepTime(share * step.seconds, step.timed_on)
    return training_seconds(plan.teacher, of_teacher) + teacher_seconds(plan.teacher, of_teacher)
