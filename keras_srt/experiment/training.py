"""The training of a run: split, batches, callbacks, segments, interruption."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt import plan as plans
from keras_srt.config import Config
from keras_srt.data import (
    Augmentation,
    DatasetInfo,
    Images,
    Split,
    evaluation_batches,
    make_split,
    training_batches,
)
from keras_srt.experiment.classifiers import build_model
from keras_srt.lazy import keras, tf
from keras_srt.plan import Plan
from keras_srt.runs import RunFolder

_VALIDATION_BATCH = 250
_PICTURES = 8


class Interrupted(Exception):
    """Ctrl-C during training; the state is saved, and the text says how to go on."""


def train(
    config: Config,
    run: RunFolder,
    data_dir: Path | None,
    resume: bool = False,
    how_to_resume: str = "",
) -> None:
    """Trains, from the start or from the last checkpoint, and leaves the best classifier.

    Args:
        config: of the run.
        run: its folder, claimed.
        data_dir: where prepared datasets lie, or None.
        resume: whether to go on from the last checkpoint, if there is one.
        how_to_resume: the command to print after Ctrl-C.

    Raises:
        UserError: the dataset, the split or a checkpoint can't be used.
        Interrupted: after Ctrl-C, with the state saved.
    """
    from keras_srt import callbacks

    if not tf.config.list_physical_devices("GPU"):
        # Equal seeds give equal results; on CPUs this costs nothing measurable.
        tf.config.experimental.enable_op_determinism()
    info = config.data.dataset.info(data_dir)
    plan = plans.make_plan(config, info)
    model = build_model(config, info, plan)
    checkpoints = callbacks.Checkpoints(run.checkpoints, model)
    checkpoints.set_model(model)
    if resume and checkpoints.restore():
        print(f"resuming at step {int(model.optimizer.iterations.numpy())}", flush=True)
    else:
        _announce(config, plan, plans.time_step(model, plan, info))
    first_step = int(model.optimizer.iterations.numpy())
    unvalidated = _is_unvalidated(first_step, plan, run)
    if first_step >= plan.steps and not unvalidated:
        return
    images, labels = config.data.dataset.load_train(data_dir)
    split = _split(config, run, labels, info)
    validation = Images(images[split.validation], labels[split.validation])
    bar = callbacks.ProgressBar(plan.steps, first_step, plan.labeled_passes)
    watching = _callbacks(run, validation, bar, checkpoints)
    try:
        if unvalidated:
            batches = evaluation_batches(*validation, _VALIDATION_BATCH)
            _validate_late(model, (first_step - 1) // plan.interval, batches, watching)
        _fit(model, config, plan, first_step, images, labels, split, watching)
    except KeyboardInterrupt:
        bar.close()
        checkpoints.save()
        step = int(model.optimizer.iterations.numpy())
        raise Interrupted(
            f"interrupted: the state after step {step} is saved; go on with\n  {how_to_resume}"
        ) from None
    finally:
        bar.close()


def _callbacks(run: RunFolder, validation: Images, bar: Any, checkpoints: Any) -> list[Any]:
    """What watches a training, in the order it is told of each interval."""
    from keras_srt import callbacks

    return [
        callbacks.StopAtNaN(),
        callbacks.StepLogs(),
        bar,
        callbacks.CollapseHint(validation.labels),
        callbacks.PerturbationPictures(
            run.tensorboard / "pictures",
            np.float32(validation.images[:_PICTURES] / 255.0),
            validation.labels[:_PICTURES],
        ),
        checkpoints,
        keras.callbacks.CSVLogger(str(run.history), append=True),
        keras.callbacks.TensorBoard(str(run.tensorboard), write_graph=False),
    ]


def _fit(
    model: Any,
    config: Config,
    plan: Plan,
    first_step: int,
    images: np.ndarray,
    labels: np.ndarray,
    split: Split,
    watching: Sequence[Any],
) -> None:
    """Trains from a step to the end, segment by segment."""
    validation = images[split.validation], labels[split.validation]
    for segment in plans.segments(plan, first_step):
        batches = training_batches(
            images[split.labeled],
            labels[split.labeled],
            images[split.unlabeled] if plan.num_unlabeled else images[:0],
            plan.sizes,
            seed=config.seed,
            first_step=segment.first_step,
            augmentation=Augmentation(config.data.augmentation.pad, config.data.augmentation.flip),
        )
        model.fit(
            batches,
            initial_epoch=segment.initial_epoch,
            epochs=segment.epochs,
            steps_per_epoch=segment.steps_per_epoch,
            validation_data=evaluation_batches(*validation, _VALIDATION_BATCH),
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


def _announce(config: Config, plan: Plan, step: plans.StepTime) -> None:
    print(plans.estimate(plan, step), flush=True)
    if plan.steps * step.seconds > 3600:
        print(
            "This takes over an hour here (the reference runs are for GPUs): --variant quick takes "
            "minutes on 2 idle cores, --variant smoke seconds.",
            flush=True,
        )


def _split(config: Config, run: RunFolder, labels: np.ndarray, info: DatasetInfo) -> Split:
    """The run's split: read if it was saved, else drawn and saved."""
    if run.split.is_file():
        split = Split.load(run.split)
        split.check(info.num_train)
        return split
    split = draw_split(config, labels, info)
    split.save(run.split)
    return split


def draw_split(config: Config, labels: np.ndarray, info: DatasetInfo) -> Split:
    """Draws the split of a run, and saves nothing.

    Raises:
        InvalidSettings: it can't be drawn.
    """
    data = config.data
    return make_split(
        labels,
        len(info.class_names),
        data.labeled,
        data.validation,
        data.unlabeled,
        data.selection,
        config.seed,
    )
