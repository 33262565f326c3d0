"""Callbacks of a run: progress, history, summaries, pictures, a hint, a stop at NaN."""

from __future__ import annotations

import csv
import io
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.core import files
from keras_srt.core.errors import NotFinite, UserError
from keras_srt.core.formatting import format_duration
from keras_srt.core.tensorflow import keras, tf
from keras_srt.training.checkpoint_files import CLEAN, ROBUST, not_finite
from keras_srt.training.checkpoints import Checkpoints


class StepLogs(keras.callbacks.Callback):
    """Adds step, learning rate and seconds to the logs of an interval, for what comes after."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock."""
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Adds them."""
        if logs is None:
            return
        step = int(self.model.optimizer.iterations.numpy())
        rate = self.model.optimizer.learning_rate
        rate = rate(step) if callable(rate) else rate
        logs["step"] = step
        # By way of a tensor, as a variable of several replicas is no number.
        logs["learning_rate"] = float(tf.convert_to_tensor(rate))
        logs["seconds"] = round(time.perf_counter() - self._began, 2)


class ProgressBar(keras.callbacks.Callback):
    """A bar for the whole training with loss terms and ETA; a line for each validation.

    The bar is for terminals; where the output goes to a file the lines stand alone.

    Args:
        total_steps: of the training.
        first_step: where it starts.
        labeled_passes_per_step: passes over the labeled images that a step makes.
        shown: whether a terminal shows the bar.
    """

    def __init__(
        self,
        total_steps: int,
        first_step: int,
        labeled_passes_per_step: float,
        shown: bool = True,
    ) -> None:
        super().__init__()
        from tqdm import tqdm

        self._total, self._first, self._step = total_steps, first_step, first_step
        self._passes = labeled_passes_per_step
        self._began = time.perf_counter()
        self._bar = tqdm(
            total=total_steps,
            initial=first_step,
            unit="step",
            dynamic_ncols=True,
            file=sys.stderr,
            disable=None if shown else True,  # None: unless it is a terminal
        )

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Moves the bar."""
        self._step += 1
        terms = {name: f"{value:.3f}" for name, value in (logs or {}).items()}
        self._bar.set_postfix(terms, refresh=False)
        self._bar.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes the validation result above the bar."""
        logs = logs or {}
        shown = "  ".join(
            f"{label} {100 * logs[key]:.1f}%"
            for key, label in ((CLEAN, "clean"), (ROBUST, "robust"))
            if key in logs
        )
        seconds = (time.perf_counter() - self._began) / max(1, self._step - self._first)
        left = (
            format_duration(seconds * (self._total - self._step))
            if self._step < self._total
            else "0 s"
        )
        self._bar.write(
            f"step {self._step:>6,} of {self._total:,}  ({self._step * self._passes:.1f} passes "
            f"over the labels)  loss {logs.get('loss', math.nan):.4f}  validation: {shown}  "
            f"left: {left}",
            file=sys.stdout,
        )
        sys.stdout.flush()

    def close(self) -> None:
        """Leaves the terminal as it should be."""
        self._bar.close()


class StopAtNaN(keras.callbacks.Callback):
    """Ends training with the reason when the loss is no longer finite."""

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Looks at the mean loss of the interval so far, NaN as soon as one loss is."""
        bad = {name: value for name, value in (logs or {}).items() if not math.isfinite(value)}
        if bad:
            step = int(self.model.optimizer.iterations.numpy())
            raise NotFinite(not_finite([f"{name} is {value}" for name, value in bad.items()], step))


class StopAtSignal(keras.callbacks.Callback):
    """Ends training after a batch, as Ctrl-C does, once a signal came; the last callback.

    Args:
        came: whether one did, see `deferred_signals`.
    """

    def __init__(self, came: Callable[[], bool]) -> None:
        super().__init__()
        self._came = came

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Ends it after a step."""
        if self._came():
            raise KeyboardInterrupt

    def on_test_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Ends it after a batch of validation images."""
        if self._came():
            raise KeyboardInterrupt


class AllSteps(keras.callbacks.Callback):
    """Refuses an interval that ended early, of which Keras only warns: the data ran out."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Counts anew."""
        self._first, self._steps = int(self.model.optimizer.iterations.numpy()), 0

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Counts."""
        self._steps += 1

    @property
    def done(self) -> int:
        """The number of steps that are trained."""
        # The optimizer's count is already raised by a step without a batch.
        return self._first + self._steps

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Compares, before anything is made of the interval."""
        if self._steps < self.params["steps"]:
            raise UserError(data_ran_out(self.done))


def data_ran_out(step: int) -> str:
    """The line for data of fewer batches than the training has steps."""
    return (
        f"data: no batch is left after step {step}; the dataset has fewer images than it says; "
        "prepare it anew, or check the source"
    )


class History(keras.callbacks.Callback):
    """Writes history.csv: a row for each interval, as the last saved state has them.

    Args:
        path: of the file.
        checkpoints: hold the rows, and are told of each interval first.
    """

    def __init__(self, path: Path, checkpoints: Checkpoints) -> None:
        super().__init__()
        self._path, self._checkpoints = path, checkpoints

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes all rows."""
        self.write()

    def write(self) -> None:
        """Writes all rows, so that the file is whole whatever became of it."""
        rows = self._checkpoints.rows
        if not rows:
            self._path.unlink(missing_ok=True)
            return
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, fieldnames=list(rows[-1]))
        table.writeheader()
        table.writerows(rows)
        files.write_text(self._path, text.getvalue())


class Summaries(keras.callbacks.TensorBoard):
    """TensorBoard's curves, a point for each interval.

    Keras' own makes tensors of the losses of each step, even where it writes none of them, and
    TensorFlow keeps a tensor for every number that it has ever made one of: some KB a step.
    """

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Nothing is written of a step."""


class CollapseHint(keras.callbacks.Callback):
    """Says once what to change when the model answers one class for all images.

    A pseudo-label that is the same everywhere is easy to keep under attack, so that SRT stays
    there. The training goes on: early in a hard one, chance level may be a passing state.

    Args:
        labels: of the validation images, int32 [n].
    """

    def __init__(self, labels: np.ndarray) -> None:
        super().__init__()
        self._chance = float(np.bincount(labels).max() / len(labels))
        self._said = False

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Compares the clean validation accuracy with the share of the largest class."""
        accuracy = (logs or {}).get("val_accuracy", math.inf)
        if self._said or accuracy > self._chance + 1e-6:
            return
        from tqdm import tqdm

        self._said = True
        tqdm.write(  # above the bar
            f"hint: {100 * accuracy:.1f}% clean is no better than one class for all images; if it "
            "stays there, lower training.learning_rate or objective.robust_weight, or raise "
            "training.weight_warmup or training.labeled_per_batch"
        )
        sys.stdout.flush()


class PerturbationPictures(keras.callbacks.Callback):
    """Writes a grid of x, x' and their difference to TensorBoard.

    Args:
        folder: of the TensorBoard log.
        images: float32 [n, height, width, channels] in [0, 1].
        labels: int32 [n].
    """

    def __init__(self, folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
        super().__init__()
        self._writer = tf.summary.create_file_writer(str(folder))
        self._images, self._labels = tf.constant(images), tf.constant(labels)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Perturbs the images with the model as it is and writes the rows."""
        from keras_srt.objectives.losses import Target, cross_entropy

        target = Target(self._labels)
        found = self.model.neighborhood.maximize(
            self._images,
            lambda x: cross_entropy(target, self.model.inference_model(x, training=False)),
            tf.stack([self.model.seed, 0]),
        )
        difference = (found.images - self._images) / 2.0 + 0.5
        columns = (self._images, found.images, difference)
        rows = [tf.concat(tf.unstack(images), axis=1) for images in columns]
        with self._writer.as_default():
            picture = tf.concat(rows, axis=0)[None]
            tf.summary.image("x, x', difference", picture, step=self.model.optimizer.iterations)
