"""Train one classifier: segments of `fit`, callbacks, interruption and rollback."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_srt.config.schema import Config
from keras_srt.core.errors import Interrupted, NotFinite, UserError
from keras_srt.core.progress import ProgressBar
from keras_srt.core.signals import TERMINATION_SIGNALS, deferred_signals
from keras_srt.core.tensorflow import keras
from keras_srt.data import VALIDATION_PER_CLASS, Images, evaluation_batches
from keras_srt.data.sharding import distribute, shared_batch_size, split_rows
from keras_srt.pipeline import cost
from keras_srt.pipeline.context import RunContext
from keras_srt.pipeline.data import TrainingData
from keras_srt.pipeline.describe import describe_cost
from keras_srt.pipeline.plan import Plan, segments
from keras_srt.pipeline.rollback import read_rollbacks, roll_back, rolled_back
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.training.checkpoint_files import WAITED
from keras_srt.training.schedules import learning_rate

if TYPE_CHECKING:
    from keras_srt.training.callbacks import History, TrainingProgress
    from keras_srt.training.checkpoints import Checkpoints
    from keras_srt.training.model import RobustModel

logger = logging.getLogger(__name__)

VALIDATION_BATCH = 250
_PICTURES = 8
_LONG_TRAINING = 3600  # seconds
# The number of validations whose mean accuracy selects the checkpoint if they have few images.
_AVERAGED = 5


def train_classifier(context: RunContext, load: Callable[[], TrainingData]) -> None:
    """Train one classifier, rolling back to the last finite state as the config allows.

    Args:
        context: The run, or its teacher.
        load: Loads the data; not called if the training is finished.
    """
    while True:
        rollbacks = read_rollbacks(context.folder)
        try:
            _train_to_the_end(rolled_back(context, rollbacks), load)
            return
        except NotFinite as error:
            roll_back(context, str(error), rollbacks)
            context = dataclasses.replace(context, resume=True)


def _train_to_the_end(context: RunContext, load: Callable[[], TrainingData]) -> None:
    from keras_srt.training import callbacks

    plan, model = context.plan, context.model
    checkpoints = _restore(context)
    history = callbacks.History(context.folder.history, checkpoints)
    first_step = int(model.optimizer.iterations.numpy())
    unvalidated = _is_unvalidated(first_step, plan, checkpoints.validated)
    finished = first_step >= plan.steps or _stopped_early(checkpoints.rows, plan)
    if context.resume:
        history.write()  # without the rows of steps that will be trained again
    if finished and not unvalidated:
        return
    data = load()
    is_chief = context.distribution.task.is_chief
    validation = _validation(context, data)
    bar = callbacks.TrainingProgress(
        plan.steps, first_step, plan.labeled_passes, validation[1], shown=is_chief
    )
    watching = _callbacks(context, data.validation, bar, checkpoints, history)
    try:
        with deferred_signals(_interrupting()) as came:
            watching.append(callbacks.StopAtSignal(came))
            if unvalidated:
                interval = (first_step - 1) // plan.interval
                _validate_late(model, interval, *validation, watching, checkpoints.means())
            if not model.stop_training:
                _fit(context, first_step, data, validation, watching)
        if came():  # after the last batch
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        bar.close()
        raise _interrupted(context, checkpoints) from None
    finally:
        bar.close()


def _restore(context: RunContext) -> Checkpoints:
    """Restore the last checkpoint of a resumed run, or describe the cost of a new one."""
    from keras_srt.training.checkpoints import Checkpoints

    model, plan, training = context.model, context.plan, context.config.training
    averaged = averaged_validations(plan, len(context.info.class_names))
    checkpoints = Checkpoints(context.folder.checkpoints, model, averaged)
    checkpoints.set_model(model)
    if context.resume and checkpoints.restore():
        rate = learning_rate(training, plan.steps, plan.steps_per_epoch)
        if not callable(rate):  # a rollback may have lowered it since the state was saved
            model.optimizer.learning_rate = rate
        logger.info("resuming at step %d", int(model.optimizer.iterations.numpy()))
        return checkpoints
    _describe_cost(context)
    if averaged > 1:
        logger.info(
            "selection %s validation images, fewer than %d per class: the checkpoint with the best "
            "mean of %d validations is kept",
            f"{plan.num_validation:,}",
            VALIDATION_PER_CLASS,
            averaged,
        )
    if training.on_nan.name == "roll_back":
        checkpoints.save()
    return checkpoints


def averaged_validations(plan: Plan, num_classes: int) -> int:
    """Return the number of validations whose mean selects a checkpoint: 1 with enough images."""
    if not 0 < plan.num_validation < VALIDATION_PER_CLASS * num_classes:
        return 1
    return min(_AVERAGED, math.ceil(plan.steps / plan.interval))


def _describe_cost(context: RunContext) -> None:
    plan, strategy = context.plan, context.distribution.strategy
    with ProgressBar("compiling", shown=context.distribution.task.is_chief):
        step = cost.time_step(context.model, plan, context.info, strategy)
    logger.info(describe_cost(plan, step))
    if cost.training_seconds(plan, step) > _LONG_TRAINING:
        logger.info(_long_training_hint(context.config))


def _long_training_hint(config: Config) -> str:
    """Say how to make a long training shorter."""
    if config.data.dataset.is_private:  # no config of the repository, so without its variants
        return (
            "This takes over an hour here: lower training.steps or data.size, or let `keras-srt "
            "init DIR --time 30m` choose what fits a time."
        )
    return (
        "This takes over an hour here (the reference runs are for GPUs): --variant quick takes "
        "minutes on 2 idle cores, --variant smoke seconds."
    )


def _interrupted(context: RunContext, checkpoints: Checkpoints) -> Interrupted:
    """Save the state, if one process can, and return the exception to raise."""
    if context.distribution.task.count > 1:  # the others are in the middle of a step
        return Interrupted(context.folder.last_step, all_workers=True)
    checkpoints.save()
    return Interrupted(context.folder.last_step)


def _interrupting() -> list[signal.Signals]:
    """Return the signals that raise an exception."""
    numbers = (signal.SIGINT, *TERMINATION_SIGNALS)
    return [number for number in numbers if callable(signal.getsignal(number))]


def _callbacks(
    context: RunContext,
    validation: Images,
    bar: TrainingProgress,
    checkpoints: Checkpoints,
    history: History,
) -> list[Any]:
    """Make the callbacks of a training, in the order in which they are called."""
    from keras_srt.training import callbacks

    early, plan = context.config.training.early_stopping, context.plan
    stop = early and callbacks.StopWithoutImprovement(early, checkpoints, plan.grown_step)
    return [
        callbacks.AllSteps(),
        callbacks.StopAtNaN(),
        callbacks.StepLogs(),
        *_validation_callbacks(context, validation, bar),
        *([stop] if stop else []),
        checkpoints,
        history,
        callbacks.Summaries(str(context.folder.tensorboard), write_graph=False),
        *context.callbacks,
    ]


def _validation_callbacks(
    context: RunContext, validation: Images, bar: TrainingProgress
) -> list[Any]:
    """Make the callbacks that look at the validation images, around the progress bar."""
    from keras_srt.training import callbacks

    if not len(validation.labels):
        return [bar]
    found = [
        callbacks.ClassAccuracy(validation, context.info.class_names, context.plan.steps),
        bar,
        callbacks.CollapseHint(validation.labels, context.plan.grown_step),
    ]
    if context.config.neighborhood is not None:
        images = np.float32(validation.images[:_PICTURES] / 255.0)
        folder = context.folder.tensorboard / "pictures"
        found.append(callbacks.PerturbationPictures(folder, images, validation.labels[:_PICTURES]))
    return found


def _fit(
    context: RunContext,
    first_step: int,
    data: TrainingData,
    validation: tuple[Any, int],
    watching: Sequence[Any],
) -> None:
    """Train from a step to the end, segment by segment."""
    from keras_srt.training import callbacks

    config, plan, strategy = context.config, context.plan, context.distribution.strategy
    validation_batches, validation_steps = validation
    for segment in segments(plan, first_step):
        batches = functools.partial(data.batches, config, plan, segment.first_step)
        try:
            context.model.fit(
                distribute(strategy, batches),
                initial_epoch=segment.initial_epoch,
                epochs=segment.epochs,
                steps_per_epoch=segment.steps_per_epoch,
                validation_data=validation_batches,
                validation_steps=validation_steps or None,
                callbacks=watching,
                verbose=0,
            )
        except ValueError as error:
            # Keras raises it, among others, if an interval has no batch.
            (all_steps,) = (one for one in watching if isinstance(one, callbacks.AllSteps))
            for _ in data.batches(config, plan, all_steps.done).take(1):
                raise
            raise UserError(callbacks.data_ran_out(all_steps.done)) from error
        if context.model.stop_training:  # by one of the run's callbacks, such as EarlyStopping
            return


def _validation(context: RunContext, data: TrainingData) -> tuple[Any, int]:
    """Return the validation batches, shared among the replicas, and their number."""
    images, labels = data.validation
    if not len(labels):
        return None, 0
    distribution = context.distribution
    size = shared_batch_size(len(labels), VALIDATION_BATCH, distribution.num_replicas)
    whole = evaluation_batches(images, labels, size)
    batches = distribute(distribution.strategy, functools.partial(split_rows, whole))
    return batches, math.ceil(len(labels) / size)


def is_trained(folder: RunFolder, plan: Plan) -> bool:
    """Return whether the history of a run has its last step, or that of an early stop."""
    try:
        history = folder.read_history()
    except UserError:  # damaged; the checkpoints hold a copy
        return False
    return bool(history) and (
        int(history[-1]["step"]) >= plan.steps or _stopped_early(history, plan)
    )


def _stopped_early(rows: Sequence[Mapping[str, Any]], plan: Plan) -> bool:
    """Return whether a training stopped early after the last row of its history."""
    return plan.patience is not None and bool(rows) and int(rows[-1][WAITED]) >= plan.patience


def _is_unvalidated(step: int, plan: Plan, validated: int) -> bool:
    """Return whether training was interrupted while an interval was validated."""
    return step > validated and (step % plan.interval == 0 or step == plan.steps)


def _validate_late(
    model: RobustModel,
    interval: int,
    batches: Any,
    steps: int,
    watching: Sequence[Any],
    means: dict[str, float],
) -> None:
    """Validate an interval that was trained before, whose mean losses are given."""
    results = {}
    if steps:
        results = model.evaluate(batches, steps=steps, verbose=0, return_dict=True)
    logs = means | {f"val_{name}": value for name, value in results.items()}
    # No step is left to train.
    callbacks = keras.callbacks.CallbackList(watching, model=model, steps=0)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(interval)
    callbacks.on_epoch_end(interval, logs)
    callbacks.on_train_end()
