"""Keras callbacks of a run: progress bar, history, TensorBoard, early termination."""

from __future__ import annotations

import csv
import io
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.config.schema import EarlyStoppingSettings
from keras_srt.core import files
from keras_srt.core.errors import NotFinite, UserError
from keras_srt.core.progress import ProgressBar
from keras_srt.core.tensorflow import keras, tf
from keras_srt.data import Images
from keras_srt.training.checkpoint_files import BALANCED, CLEAN, ROBUST, WAITED, WORST, not_finite
from keras_srt.training.checkpoints import Checkpoints

logger = logging.getLogger(__name__)

_BATCH = 250
_SHOWN = ((CLEAN, "clean"), (ROBUST, "robust"), (BALANCED, "balanced"), (WORST, "worst class"))
# Classes that a warning names.
_NAMED = 5
# Before this step, a model that predicts one class for all images is usual.
_FIRST_HINT = 100


class StepLogs(keras.callbacks.Callback):
    """Add step, learning rate and seconds to the logs of an interval for the later callbacks."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the timer."""
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Add them."""
        if logs is None:
            return
        step = int(self.model.optimizer.iterations.numpy())
        rate = self.model.optimizer.learning_rate
        rate = rate(step) if callable(rate) else rate
        logs["step"] = step
        # A mirrored variable converts to a tensor, but not to a float.
        logs["learning_rate"] = float(tf.convert_to_tensor(rate))
        logs["seconds"] = round(time.perf_counter() - self._began, 2)


class ClassAccuracy(keras.callbacks.Callback):
    """Add the accuracy of the classes on clean validation images to the logs of an interval.

    It adds the balanced accuracy, which is the mean over the classes, and the lowest accuracy of a
    class. From the middle of the training on, it warns once of classes that are never right.

    Args:
        validation: The validation images, uint8, and their labels.
        names: Class names in the order of their ids.
        total_steps: Number of steps of the whole training.
    """

    def __init__(self, validation: Images, names: Sequence[str], total_steps: int) -> None:
        super().__init__()
        self._validation, self._names, self._total = validation, names, total_steps
        self._warned = False

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Classify the validation images."""
        if logs is None:
            return
        images, labels = self._validation
        parts = [images[i : i + _BATCH] for i in range(0, len(images), _BATCH)]
        classifier = self.model.inference_model
        logits = [classifier(tf.constant(np.float32(p / 255.0)), training=False) for p in parts]
        right = np.concatenate(logits).argmax(axis=1) == labels
        accuracy = {int(c): float(right[labels == c].mean()) for c in np.unique(labels)}
        logs[BALANCED], logs[WORST] = float(np.mean([*accuracy.values()])), min(accuracy.values())
        never = [number for number, share in accuracy.items() if share == 0]
        # A model that predicts one class for all images is the subject of `CollapseHint`.
        if self._warned or not never or len(never) >= len(accuracy) - 1:
            return
        if 2 * logs.get("step", 0) >= self._total:
            self._warned = True
            named = [f"{self._names[c]} (n={(labels == c).sum()})" for c in never[:_NAMED]]
            logger.warning(
                "%d of %d classes are never right in validation: %s; label more of their images, "
                "check their labels, or set data.balance to true",
                len(never),
                len(accuracy),
                ", ".join(named) + (", …" if len(never) > _NAMED else ""),
            )


class TrainingProgress(keras.callbacks.Callback):
    """Progress with loss terms and the remaining time, and one line per interval.

    Args:
        total_steps: Number of steps of the whole training.
        first_step: First step of this process.
        labeled_passes_per_step: Passes over the labeled images per step.
        validation_batches: Number of batches of a validation.
        shown: Whether to show the progress between validations.
    """

    def __init__(
        self,
        total_steps: int,
        first_step: int,
        labeled_passes_per_step: float,
        validation_batches: int,
        shown: bool = True,
    ) -> None:
        super().__init__()
        self._total, self._passes = total_steps, labeled_passes_per_step
        self._bar = ProgressBar("training", total_steps, "step", first_step, shown)
        self._validation_batches, self._shown = validation_batches, shown
        self._validation: ProgressBar | None = None

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Advance the bar."""
        # Keras 3 sorts the names.
        terms = sorted((logs or {}).items(), key=lambda term: (term[0] != "loss", term[0]))
        self._bar.advance(values={name: f"{value:.3f}" for name, value in terms})

    def on_test_begin(self, logs: Any = None) -> None:
        """Show a bar for the validation."""
        count, shown = self._validation_batches, self._shown
        self._validation = ProgressBar("validation", count, "batch", shown=shown)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Advance the bar of the validation."""
        if self._validation is not None:
            self._validation.advance()

    def on_test_end(self, logs: Any = None) -> None:
        """Close the bar of the validation."""
        if self._validation is not None:
            self._validation.close()
            self._validation = None

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Print the mean loss and the validation result above the bar."""
        logs = logs or {}
        shown = "  ".join(f"{label} {100 * logs[key]:.1f}%" for key, label in _SHOWN if key in logs)
        step, left = self._bar.done, self._bar.left
        self._bar.write(
            f"step {step:>6,} of {self._total:,}  ({step * self._passes:.1f} passes "
            f"over the labels)  loss {logs.get('loss', math.nan):.4f}"
            + (f"  validation: {shown}" if shown else "")
            + (f"  left: {left}" if left else "")
        )

    def close(self) -> None:
        """Close the bars."""
        self.on_test_end()
        self._bar.close()


class StopAtNaN(keras.callbacks.Callback):
    """Raise `NotFinite` when the loss is no longer finite."""

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Check the mean loss of the interval, which is NaN once the loss of one step is."""
        bad = {name: value for name, value in (logs or {}).items() if not math.isfinite(value)}
        if bad:
            step = int(self.model.optimizer.iterations.numpy())
            raise NotFinite(not_finite([f"{name} is {value}" for name, value in bad.items()], step))


class StopWithoutImprovement(keras.callbacks.Callback):
    """Stop the training when the validation accuracy no longer improves.

    The number of validations without improvement, which it adds to the logs, follows from the
    history alone, so that a resumed training stops at the same step. Keras' `EarlyStopping` starts
    again with each call of `fit`.

    Args:
        settings: The config's settings.
        checkpoints: The callback that holds the history and selects the best classifier; it must
            come later.
        first_step: The step after which validations count.
    """

    def __init__(
        self, settings: EarlyStoppingSettings, checkpoints: Checkpoints, first_step: int
    ) -> None:
        super().__init__()
        self._settings, self._checkpoints, self._first = settings, checkpoints, first_step

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Count the validations, and stop after this interval if there are enough."""
        if logs is None:
            return
        waited = self._waited([*self._checkpoints.rows, logs])
        logs[WAITED] = waited
        if waited >= self._settings.patience:
            logger.info(
                "early stop after step %s: no better validation in %d", f"{logs['step']:,}", waited
            )
            self.model.stop_training = True

    def _waited(self, rows: Sequence[Mapping[str, Any]]) -> int:
        best, waited = -math.inf, 0
        for count, row in enumerate(rows, 1):
            score = self._checkpoints.score(rows[:count])
            if score > best + self._settings.min_delta:
                best, waited = score, 0
            elif row["step"] > self._first:
                waited += 1
        return waited


class StopAtSignal(keras.callbacks.Callback):
    """Raise KeyboardInterrupt after the batch in which a signal arrived. Must be the last callback.

    Args:
        came: Returns whether a signal has arrived; see `deferred_signals`.
    """

    def __init__(self, came: Callable[[], bool]) -> None:
        super().__init__()
        self._came = came

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Stop after a training step."""
        if self._came():
            raise KeyboardInterrupt

    def on_test_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Stop after a validation batch."""
        if self._came():
            raise KeyboardInterrupt


class AllSteps(keras.callbacks.Callback):
    """Raise an error if the data ran out during an interval; Keras only warns."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Reset the count."""
        self._first, self._steps = int(self.model.optimizer.iterations.numpy()), 0

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Count the step."""
        self._steps += 1

    @property
    def done(self) -> int:
        """The number of completed steps."""
        # The optimizer's count includes the step that got no batch.
        return self._first + self._steps

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Compare before the interval is validated."""
        self._check()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Compare before the interval is saved, which may have no validation."""
        self._check()

    def _check(self) -> None:
        if self._steps < self.params["steps"]:
            raise UserError(data_ran_out(self.done))


def data_ran_out(step: int) -> str:
    """The message about data with fewer batches than training steps."""
    return (
        f"data: no batch is left after step {step}; the dataset has fewer images than it reports; "
        "prepare it again, or check the source"
    )


class History(keras.callbacks.Callback):
    """Write history.csv: one row per interval, as in the last saved state.

    Args:
        path: Path of the file.
        checkpoints: The callback that holds the rows; it must come first.
    """

    def __init__(self, path: Path, checkpoints: Checkpoints) -> None:
        super().__init__()
        self._path, self._checkpoints = path, checkpoints

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write all rows."""
        self.write()

    def write(self) -> None:
        """Write all rows, which also repairs a damaged file."""
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
    """TensorBoard curves with one point per interval.

    Keras' callback converts the losses of each step to tensors, even if it doesn't write them, and
    TensorFlow caches a tensor for each distinct number: a leak of some KB per step.
    """

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Write nothing per step."""


class CollapseHint(keras.callbacks.Callback):
    """Log once which settings to change if the model predicts one class for all images.

    A constant prediction is trivially robust, so that SRT does not leave this state. Training
    continues, because accuracy may be at chance level for a while early in training. For the same
    reason, the first 100 steps and the warmups are left out.

    Args:
        labels: Labels of the validation images, int32 [n].
        first_step: The step at which all warmups end.
    """

    def __init__(self, labels: np.ndarray, first_step: int) -> None:
        super().__init__()
        self._first = max(first_step, _FIRST_HINT)
        self._chance = float(np.bincount(labels).max() / len(labels))
        self._said = False

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Compare the clean validation accuracy with the share of the largest class."""
        logs = logs or {}
        accuracy = logs.get("val_accuracy", math.inf)
        if self._said or logs.get("step", 0) < self._first or accuracy > self._chance + 1e-6:
            return
        self._said = True
        logger.info(
            "hint: %.1f%% clean is no better than one class for all images; if it stays there, "
            "lower training.learning_rate or objective.robust_weight, or raise "
            "training.weight_warmup or training.labeled_per_batch",
            100 * accuracy,
        )


class PerturbationPictures(keras.callbacks.Callback):
    """Write a grid of x, x' and their difference to TensorBoard.

    Args:
        folder: Folder of the TensorBoard log.
        images: Images float32 [n, height, width, channels] in [0, 1].
        labels: Labels int32 [n].
    """

    def __init__(self, folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
        super().__init__()
        self._writer = tf.summary.create_file_writer(str(folder))
        self._images, self._labels = tf.constant(images), tf.constant(labels)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Perturb the images with the current model and write the grid."""
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
