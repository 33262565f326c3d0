"""Save and restore the state of training and the best classifier."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.core import files
from keras_srt.core.errors import NotFinite, UserError
from keras_srt.core.tensorflow import keras, tf, tf_variable
from keras_srt.training.checkpoint_files import (
    CLEAN,
    ROBUST,
    State,
    about_best,
    best_score,
    best_weights,
    complete_best,
    manifests,
    not_finite,
    remove,
)

_log = logging.getLogger(__name__)
# Number of states to keep.
_KEPT = 2


class Checkpoints(keras.callbacks.Callback):
    """Save the state of training after each interval, and the best classifier.

    `state-STEP.*` holds weights, optimizer and the means of the current interval. Its manifest
    `state-STEP.json` holds the checksums of these files and the history. `best.weights.h5` is
    the classifier with the highest robust accuracy on the validation images, described by
    `best.json`. Objectives without a neighborhood select by clean accuracy, because robust
    accuracy is then highest where the least has been learned. Without validation images it is the
    classifier of the last interval. Weights that are not finite are never saved.

    `tf.train.CheckpointManager` is not used: it keeps no checksums, so that it can't detect a
    damaged file before restoring it and fall back to the state before; it deletes the old state
    before the new one is known to be on disk; and it doesn't save the history atomically with
    the state.

    Args:
        folder: Folder of the checkpoints.
        model: The compiled `RobustModel`.
        averaged: Number of last validations over which the accuracy is averaged before it is
            compared. Few validation images can't tell two checkpoints apart.

    Attributes:
        rows: The history: the logs of each interval, with its number as `epoch`.
    """

    def __init__(self, folder: Path, model: keras.Model, averaged: int = 1) -> None:
        super().__init__()
        self._folder, self._averaged = folder, averaged
        self._selected_by = ROBUST if model.objective.uses_neighborhood else CLEAN
        self._means = model.term_metrics
        self._begun: list[np.ndarray] | None = None  # means to restore in the next interval
        self.rows: list[dict[str, Any]] = []
        self._state = tf.train.Checkpoint(
            model=model.classifier,
            optimizer=model.optimizer,
            # By variables, since TensorFlow silently leaves out the metrics of Keras 3.
            means=[
                {"total": tf_variable(mean.total), "count": tf_variable(mean.count)}
                for mean in self._means
            ],
            **model.update.checkpointed,
        )

    def restore(self) -> bool:
        """Restore the last undamaged state.

        Returns:
            Whether there was a state.

        Raises:
            UserError: All states are damaged, the state belongs to another model, or the best
                classifier is damaged.
        """
        complete_best(self._folder)
        files.remove_drafts(self._folder)
        found = manifests(self._folder)
        if not found:
            return False
        state = next((state for path in found if (state := State.read(path))), None)
        if state is None:
            raise UserError(
                f"{found[0].with_suffix('')}: can't be restored, it is damaged, and so is every "
                "state before it; start again with another --run-dir"
            )
        self._read(state)
        for damaged in found[: found.index(state.manifest)]:
            _log.warning(
                "%s is damaged; resuming from %s", damaged.with_suffix(""), state.prefix.name
            )
            remove(damaged)
        self.rows = state.rows
        # The means of a validated interval are in its row.
        self._begun = self._values() if self.validated < state.step else None
        return True

    def _read(self, state: State) -> None:
        try:
            status = self._state.read(str(state.prefix))
            status.assert_existing_objects_matched()
            status.expect_partial()
        except (ValueError, IndexError, AssertionError, tf.errors.OpError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"{state.prefix}: can't be restored, it belongs to another model or to another "
                f"version of Keras ({reason[:120]}); start again with another --run-dir"
            ) from error

    @property
    def validated(self) -> int:
        """The last step in the history; 0 if the history is empty."""
        return int(self.rows[-1]["step"]) if self.rows else 0

    def score(self, rows: Sequence[Mapping[str, Any]]) -> float:
        """Return the accuracy that selects the best classifier, after the last of these rows."""
        last = rows[-self._averaged :]
        return float(np.mean([float(row.get(self._selected_by, 0.0)) for row in last]))

    def means(self) -> dict[str, float]:
        """Return the means of the loss and its terms over the interval so far."""
        return {mean.name: float(tf.convert_to_tensor(mean.result())) for mean in self._means}

    def _values(self) -> list[np.ndarray]:
        return [np.asarray(tf.convert_to_tensor(v)) for mean in self._means for v in mean.variables]

    def _restore_means(self) -> None:
        """Restore the means that Keras has reset."""
        if self._begun is None:
            return
        variables = [variable for mean in self._means for variable in mean.variables]
        for variable, value in zip(variables, self._begun, strict=True):
            variable.assign(value)
        self._begun = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Restore the means of an interrupted interval."""
        self._restore_means()

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Keep the means of the interval in case its validation is interrupted."""
        self._begun = self._values()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Save the classifier if it is the best so far, then the state."""
        logs = logs or {}
        self._check_finite()
        score = self.score([*self.rows, logs])
        # Prefer the later of equal scores, which has been trained longer.
        if score >= best_score(self._folder, self._selected_by):
            validated = {self._selected_by: score} if self._selected_by in logs else {}
            self._save_best({"step": int(logs.get("step", 0)), **validated})
        self.rows = [*self.rows, {"epoch": epoch, **dict(sorted(logs.items()))}]
        self.save()
        self._begun = None

    def _save_best(self, about: dict[str, Any]) -> None:
        """Write best.json before the rename, so that `complete_best` can do it after a kill."""
        path = best_weights(self._folder)
        draft = files.draft_path(path)
        with files.translate_write_errors(path, RuntimeError):  # HDF5 raises RuntimeError
            # HDF5 ends the process on a full disk. Reserve space for the weights and their names.
            weights = self.model.inference_model.weights
            files.check_space(draft, sum(4096 + 8 * int(np.prod(w.shape)) for w in weights))
            self.model.inference_model.save_weights(draft)
            files.fsync(draft)
            about = about | {"sha256": files.sha256(draft)}
            files.write_checksummed_json(about_best(self._folder), about)
            files.commit_draft(draft, path)

    def save(self) -> None:
        """Save the current state, at most once per step.

        Raises:
            NotFinite: A weight is not finite.
            UserError: The disk is full or read-only; earlier states are kept.
        """
        step = int(self.model.optimizer.iterations.numpy())
        manifest = self._folder / f"state-{step}.json"
        saved = State.read(manifest)
        digests = self._write(step) if saved is None else saved.files
        content = {"step": step, "files": digests, "history": self.rows}
        files.write_checksummed_json(manifest, content)
        for old in manifests(self._folder)[_KEPT:]:
            remove(old)

    def _write(self, step: int) -> dict[str, str]:
        """Write the files of a state and return their checksums."""
        self._check_finite()
        self._restore_means()
        draft = files.draft_path(self._folder / f"state-{step}")
        digests = {}
        with files.translate_write_errors(self._folder, tf.errors.OpError):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._state.write(str(draft))
            for written in sorted(self._folder.glob(f"{draft.name}.*")):
                path = self._folder / f"state-{step}{written.name.removeprefix(draft.name)}"
                digests[path.name] = files.sha256(written)
                files.commit_draft(written, path)
        return digests

    def _check_finite(self) -> None:
        update = self.model.update
        averaged = [] if update.average is None else update.average.classifier.weights
        weights = [*self.model.classifier.weights, *self.model.optimizer.variables, *averaged]
        floats = [tf.convert_to_tensor(w) for w in weights if tf.as_dtype(w.dtype).is_floating]
        if all(bool(tf.reduce_all(tf.math.is_finite(weight))) for weight in floats):
            return
        step = int(self.model.optimizer.iterations.numpy())
        raise NotFinite(not_finite(["a weight is not finite"], step))
