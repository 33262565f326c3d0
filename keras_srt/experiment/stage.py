"""A stage of training: batches, callbacks, segments, interruption and what follows it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_srt import plan as plans
from keras_srt.config import Config
from keras_srt.data import (
    Augmentation,
    DatasetInfo,
    Images,
    Split,
    evaluation_batches,
    training_batches,
)
from keras_srt.experiment.classifiers import build_model
from keras_srt.lazy import keras, tf
from keras_srt.plan import Plan
from keras_srt.runs import RunFolder

VALIDATION_BATCH = 250
_PICTURES = 8


class Interrupted(Exception):
    """Ctrl-C during training; the state is saved, and the text says how to go on."""


class TrainingPart(NamedTuple):
    """The training part of a dataset, and what of it is for what.

    Attributes:
        images: uint8 [n, height, width, channels].
        labels: int32 [n]; those of the unlabeled images are never looked at.
        split: which images are labeled, unlabeled and for validation.
        pseudo_labels: int32, a teacher's answers to the unlabeled images, or None.
    """

    images: np.ndarray
    labels: np.ndarray
    split: Split
    pseudo_labels: np.ndarray | None = None

    @property
    def validation(self) -> Images:
        """The images held back, with their labels."""
        return Images(self.images[self.split.validation], self.labels[self.split.validation])


def train_stage(
    config: Config,
    run: RunFolder,
    info: DatasetInfo,
    load: Callable[[], TrainingPart],
    resume: bool,
    how_to_resume: str,
) -> None:
    """Trains one classifier, from the start or from the last checkpoint.

    Args:
        config: of the stage.
        run: folder of its checkpoints and its history.
        info: of the dataset.
        load: gives images, labels and split; not asked where the training is finished.
        resume: whether to go on from the last checkpoint, if there is one.
        how_to_resume: the command to print after Ctrl-C.

    Raises:
        UserError: a checkpoint can't be used.
        Interrupted: after Ctrl-C, with the state saved.
    """
    from keras_srt import callbacks

    plan = plans.make_plan(config, info)
    model = build_model(config, info, plan)
    checkpoints = callbacks.Checkpoints(run.checkpoints, model)
    checkpoints.set_model(model)
    if resume and checkpoints.restore():
        print(f"resuming at step {int(model.optimizer.iterations.numpy())}", flush=True)
    else:
        _announce(plan, plans.time_step(model, plan, info))
    first_step = int(model.optimizer.iterations.numpy())
    unvalidated = _is_unvalidated(first_step, plan, run)
    if first_step >= plan.steps and not unvalidated:
        return
    data = load()
    bar = callbacks.ProgressBar(plan.steps, first_step, plan.labeled_passes)
    watching = _callbacks(config, run, data.validation, bar, checkpoints)
    try:
        if unvalidated:
            batches = evaluation_batches(*data.validation, VALIDATION_BATCH)
            _validate_late(model, (first_step - 1) // plan.interval, batches, watching)
        _fit(model, config, plan, first_step, data, watching)
    except KeyboardInterrupt:
        bar.close()
        checkpoints.save()
        step = int(model.optimizer.iterations.numpy())
        raise Interrupted(
            f"interrupted: the state after step {step} is saved; go on with\n  {how_to_resume}"
        ) from None
    finally:
        bar.close()


def _callbacks(
    config: Config, run: RunFolder, validation: Images, bar: Any, checkpoints: Any
) -> list[Any]:
    """What watches a training, in the order it is told of each interval."""
    from keras_srt import callbacks

    pictures = []
    if config.neighborhood is not None:
        pictures = [
            callbacks.PerturbationPictures(
                run.tensorboard / "pictures",
                np.float32(validation.images[:_PICTURES] / 255.0),
                validation.labels[:_PICTURES],
            )
        ]
    return [
        callbacks.StopAtNaN(),
        callbacks.StepLogs(),
        bar,
        callbacks.CollapseHint(validation.labels),
        *pictures,
        checkpoints,
        keras.callbacks.CSVLogger(str(run.history), append=True),
        keras.callbacks.TensorBoard(str(run.tensorboard), write_graph=False),
    ]


def _fit(
    model: Any,
    config: Config,
    plan: Plan,
    first_step: int,
    data: TrainingPart,
    watching: Sequence[Any],
) -> None:
    """Trains from a step to the end, segment by segment."""
    images, split = data.images, data.split
    for segment in plans.segments(plan, first_step):
        batches = training_batches(
            images[split.labeled],
            data.labels[split.labeled],
            images[split.unlabeled] if plan.num_unlabeled else images[:0],
            plan.sizes,
            seed=config.seed,
            first_step=segment.first_step,
            augmentation=Augmentation(config.data.augmentation.pad, config.data.augmentation.flip),
            pseudo_labels=data.pseudo_labels,
        )
        model.fit(
            batches,
            initial_epoch=segment.initial_epoch,
            epochs=segment.epochs,
            steps_per_epoch=segment.steps_per_epoch,
            validation_data=evaluation_batches(*data.validation, VALIDATION_BATCH),
            callbacks=watching,
            verbose=0,
        )


def _is_unvalidated(step: int, plan: Plan, run: RunFolder) -> bool:
    """Whether Ctrl-C came between the last step of an interval and its validation's end."""
    history = run.read_history()
    validated = int(history[-1]["step"]) if history else 0
    return step > validated and (step % plan.interval == 0 or step == plan.steps)


def _validate_late(
    model: keras.Model, interval: int, batches: tf.data.Dataset, watching: Sequence[Any]
) -> None:
    """Makes up for the validation of an interval; its training losses are lost (NaN)."""
    results = model.evaluate(batches, verbose=0, return_dict=True)
    logs = dict.fromkeys(("loss", *model.objective.term_names), math.nan)
    logs |= {f"val_{name}": value for name, value in results.items()}
    callbacks = keras.callbacks.CallbackList(watching, model=model)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(interval)
    callbacks.on_epoch_end(interval, logs)
    callbacks.on_train_end()


def _announce(plan: Plan, step: plans.StepTime) -> None:
    print(plans.estimate(plan, step), flush=True)
    if plan.steps * step.seconds > 3600:
        print(
            "This takes over an hour here (the reference runs are for GPUs): --variant quick takes "
            "minutes on 2 idle cores, --variant smoke seconds.",
            flush=True,
        )
