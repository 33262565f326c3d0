"""A stage of training: batches, callbacks, segments, interruption and what follows it."""

from __future__ import annotations

import functools
import math
import signal
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_srt.config.schema import Config
from keras_srt.core.errors import Interrupted, NotFinite, UserError
from keras_srt.core.signals import deferred_signals
from keras_srt.core.tensorflow import keras, tf
from keras_srt.data import (
    ONE_REPLICA,
    Augmentation,
    DatasetInfo,
    Images,
    Replicas,
    Split,
    evaluation_batches,
    training_batches,
)
from keras_srt.pipeline import plan as plans
from keras_srt.pipeline.classifiers import build_model
from keras_srt.pipeline.distribution import Distribution, split_rows
from keras_srt.pipeline.plan import Plan
from keras_srt.pipeline.rollback import go_back, lower_rate
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.pipeline.streamed import StreamedPart

VALIDATION_BATCH = 250
_PICTURES = 8


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

    def batches(
        self, config: Config, plan: Plan, first_step: int, replicas: Replicas = ONE_REPLICA
    ) -> tf.data.Dataset:
        """Training batches from a step on, see `training_batches`."""
        images, split = self.images, self.split
        return training_batches(
            images[split.labeled],
            self.labels[split.labeled],
            images[np.asarray(split.unlabeled)] if plan.num_unlabeled else images[:0],
            plan.sizes,
            seed=config.seed,
            first_step=first_step,
            augmentation=Augmentation(config.data.augmentation.pad, config.data.augmentation.flip),
            pseudo_labels=self.pseudo_labels,
            replicas=replicas,
        )

    def unlabeled_batches(self, batch_size: int) -> tf.data.Dataset:
        """The unlabeled images in the order of the split, float32 in [0, 1]."""
        images = self.images[np.asarray(self.split.unlabeled)]
        nothing = np.zeros(len(images), np.int32)  # no label of theirs comes near
        return evaluation_batches(images, nothing, batch_size).map(lambda image, _: image)


def train_stage(
    config: Config,
    run: RunFolder,
    info: DatasetInfo,
    load: Callable[[], TrainingPart | StreamedPart],
    resume: bool,
    how_to_resume: str,
    distribution: Distribution | None = None,
) -> None:
    """Trains one classifier, from the start or from the last checkpoint.

    Args:
        config: of the stage.
        run: folder of its checkpoints and its history.
        info: of the dataset.
        load: gives images, labels and split; not asked where the training is finished.
        resume: whether to go on from the last checkpoint, if there is one.
        how_to_resume: the command to print after Ctrl-C.
        distribution: the devices to train on; None for one.

    Raises:
        UserError: a checkpoint can't be used.
        Interrupted: after Ctrl-C, with the state saved.
    """
    plan = plans.make_plan(config, info)
    distribution = distribution or Distribution.make("one_device")
    while True:
        lowered, retreats = lower_rate(config, run)
        stage = _Stage(lowered, run, info, plan, distribution, how_to_resume)
        try:
            stage.train(load, resume)
            return
        except NotFinite as error:
            go_back(config, run, str(error), retreats)
            resume = True


class _Stage(NamedTuple):
    """One training, from where it stands to its end, to Ctrl-C or to NaN."""

    config: Config
    run: RunFolder
    info: DatasetInfo
    plan: Plan
    distribution: Distribution
    how_to_resume: str

    def train(self, load: Callable[[], TrainingPart | StreamedPart], resume: bool) -> None:
        """See `train_stage`."""
        from keras_srt.training import callbacks

        plan, distribution = self.plan, self.distribution
        model, checkpoints = self._build(resume)
        history = callbacks.History(self.run.history, checkpoints)
        first_step = int(model.optimizer.iterations.numpy())
        unvalidated = _is_unvalidated(first_step, plan, checkpoints.validated)
        if resume:
            history.write()  # the rows of steps that are trained again are gone
        if first_step >= plan.steps and not unvalidated:
            return
        data = load()
        bar = callbacks.ProgressBar(
            plan.steps, first_step, plan.labeled_passes, shown=distribution.task.is_chief
        )
        watching = _callbacks(self.config, self.run, data.validation, bar, checkpoints, history)
        try:
            with deferred_signals(_interrupting()) as came:
                watching.append(callbacks.StopAtSignal(came))
                if unvalidated:
                    batches, steps = _validation(data, distribution)
                    interval = (first_step - 1) // plan.interval
                    _validate_late(model, interval, batches, steps, watching, checkpoints.means())
                _fit(model, self.config, plan, first_step, data, watching, distribution)
            if came():  # after the last batch
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            bar.close()
            self._interrupt(model, checkpoints)
        finally:
            bar.close()

    def _build(self, resume: bool) -> tuple[Any, Any]:
        """The model and its checkpoints, where the training stands."""
        from keras_srt.training.checkpoints import Checkpoints

        with self.distribution.strategy.scope():
            model = build_model(self.config, self.info, self.plan)
        checkpoints = Checkpoints(self.run.checkpoints, model)
        checkpoints.set_model(model)
        if resume and checkpoints.restore():
            rate = plans.learning_rate(self.config, self.plan)
            if not callable(rate):  # a retreat may have lowered it since the state was saved
                model.optimizer.learning_rate = rate
            print(f"resuming at step {int(model.optimizer.iterations.numpy())}", flush=True)
            return model, checkpoints
        _announce(self.plan, plans.time_step(model, self.plan, self.info, self.distribution))
        if self.config.training.on_nan.name == "go_back":
            checkpoints.save()
        return model, checkpoints

    def _interrupt(self, model: Any, checkpoints: Any) -> None:
        """Saves what there is after Ctrl-C, and says how to go on."""
        if self.distribution.task.count > 1:  # and the others are in the middle of a step
            raise Interrupted(
                "interrupted: the state of the last interval is saved; start all workers again "
                f"with\n  {self.how_to_resume}"
            ) from None
        checkpoints.save()
        step = int(model.optimizer.iterations.numpy())
        raise Interrupted(
            f"interrupted: the state after step {step} is saved; go on with\n  {self.how_to_resume}"
        ) from None


def _interrupting() -> list[signal.Signals]:
    """The signals that raise an exception, and neither are ignored nor end the process."""
    return [n for n in (signal.SIGINT, signal.SIGTERM) if callable(signal.getsignal(n))]


def _callbacks(
    config: Config,
    run: RunFolder,
    validation: Images,
    bar: Any,
    checkpoints: Any,
    history: Any,
) -> list[Any]:
    """What watches a training, in the order it is told of each interval."""
    from keras_srt.training import callbacks

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
        callbacks.AllSteps(),
        callbacks.StopAtNaN(),
        callbacks.StepLogs(),
        bar,
        callbacks.CollapseHint(validation.labels),
        *pictures,
        checkpoints,
        history,
        callbacks.Summaries(str(run.tensorboard), write_graph=False),
    ]


def _fit(
    model: Any,
    config: Config,
    plan: Plan,
    first_step: int,
    data: TrainingPart | StreamedPart,
    watching: Sequence[Any],
    distribution: Distribution,
) -> None:
    """Trains from a step to the end, segment by segment."""
    from keras_srt.training import callbacks

    validation, validation_steps = _validation(data, distribution)
    for segment in plans.segments(plan, first_step):
        batches = distribution.spread(
            functools.partial(data.batches, config, plan, segment.first_step)
        )
        try:
            model.fit(
                batches,
                initial_epoch=segment.initial_epoch,
                epochs=segment.epochs,
                steps_per_epoch=segment.steps_per_epoch,
                validation_data=validation,
                validation_steps=validation_steps,
                callbacks=watching,
                verbose=0,
            )
        except ValueError as error:
            if "Empty Logs" not in str(error):  # so Keras names an interval without a batch
                raise
            raise UserError(callbacks.data_ran_out(segment.first_step)) from error


def _validation(data: TrainingPart | StreamedPart, distribution: Distribution) -> tuple[Any, int]:
    """The validation images, each on one of the replicas, and how many batches they are."""
    images, labels = data.validation
    size = distribution.batch_size(len(labels), VALIDATION_BATCH)
    whole = evaluation_batches(images, labels, size)
    batches = distribution.spread(functools.partial(split_rows, whole))
    return batches, math.ceil(len(labels) / size)


def is_trained(run: RunFolder, plan: Plan) -> bool:
    """Whether a run has been trained to its end, validation included, as far as is known."""
    try:
        history = run.read_history()
    except UserError:  # damaged: the checkpoints know it, and write it anew
        return False
    return bool(history) and int(history[-1]["step"]) >= plan.steps


def _is_unvalidated(step: int, plan: Plan, validated: int) -> bool:
    """Whether Ctrl-C came between the last step of an interval and its validation's end."""
    return step > validated and (step % plan.interval == 0 or step == plan.steps)


def _validate_late(
    model: keras.Model,
    interval: int,
    batches: Any,
    steps: int,
    watching: Sequence[Any],
    means: dict[str, float],
) -> None:
    """Makes up for the validation of an interval, whose training losses are given."""
    results = model.evaluate(batches, steps=steps, verbose=0, return_dict=True)
    logs = means | {f"val_{name}": value for name, value in results.items()}
    callbacks = keras.callbacks.CallbackList(watching, model=model)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(interval)
    callbacks.on_epoch_end(interval, logs)
    callbacks.on_train_end()


def _announce(plan: Plan, step: plans.StepTime) -> None:
    print(plans.estimate(plan, step), flush=True)
    if plans.training_seconds(plan, step) > 3600:
        print(
            "This takes over an hour here (the reference runs are for GPUs): --variant quick takes "
            "minutes on 2 idle cores, --variant smoke seconds.",
            flush=True,
        )
