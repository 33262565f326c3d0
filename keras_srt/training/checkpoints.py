"""Saves the states of a training and its best classifier, and goes on from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.core import files
from keras_srt.core.errors import NotFinite, UserError
from keras_srt.core.tensorflow import keras, tf
from keras_srt.training.checkpoint_files import (
    CLEAN,
    ROBUST,
    State,
    about_best,
    best_score,
    best_weights,
    check_best,
    manifests,
    not_finite,
    remove,
)

_KEPT = 2


class Checkpoints(keras.callbacks.Callback):
    """Saves the state of training after each interval, and the best classifier.

    `state-*` holds weights, optimizer and the means of the interval so far; a manifest beside it
    the digests of its files, and the history. `best.weights.h5` is the classifier of the highest
    robust accuracy on validation images, with `best.json` beside it. Where the objective
    searches no neighborhood the clean accuracy decides: the robust one is near chance then,
    and highest where little has been learned. What isn't finite is never saved.

    Args:
        folder: of the checkpoints.
        model: the compiled `RobustModel`.

    Attributes:
        rows: of the history: the logs of each interval, with its number as `epoch`.
    """

    def __init__(self, folder: Path, model: keras.Model) -> None:
        super().__init__()
        self._folder = folder
        self._selected_by = ROBUST if model.objective.uses_neighborhood else CLEAN
        self._means = model.term_metrics
        self._begun: list[np.ndarray] | None = None  # means to go on with
        self.rows: list[dict[str, Any]] = []
        self._state = tf.train.Checkpoint(
            model=model.classifier,
            optimizer=model.optimizer,
            means=self._means,
            **model.update.checkpointed,
        )

    def restore(self) -> bool:
        """Restores the last whole state, if there is any state, and says whether there was.

        Raises:
            UserError: all states are damaged, one is of another model, or the best
                classifier is damaged.
        """
        check_best(self._folder)
        files.remove_drafts(self._folder)
        found = manifests(self._folder)
        if not found:
            return False
        state = next((state for path in found if (state := State.read(path))), None)
        if state is None:
            raise UserError(
                f"{found[0].with_suffix('')}: can't be restored, it is damaged, and so is every "
                "state before it; start anew with another --run-dir"
            )
        self._read(state)
        for damaged in found[: found.index(state.manifest)]:
            print(
                f"warning: {damaged.with_suffix('')} is damaged; going on from {state.prefix.name}",
                flush=True,
            )
            remove(damaged)
        self.rows = state.rows
        # The means of an interval that is validated are in its row already.
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
                f"{state.prefix}: can't be restored, it is of another model ({reason[:120]}); "
                "start anew with another --run-dir"
            ) from error

    @property
    def validated(self) -> int:
        """The last step that has a row in the history; 0 where there is none."""
        return int(self.rows[-1]["step"]) if self.rows else 0

    def means(self) -> dict[str, float]:
        """Losses and loss terms, means over the interval so far."""
        return {mean.name: float(tf.convert_to_tensor(mean.result())) for mean in self._means}

    def _values(self) -> list[np.ndarray]:
        return [np.asarray(tf.convert_to_tensor(v)) for mean in self._means for v in mean.variables]

    def _go_on(self) -> None:
        """Puts means back that Keras has set to 0."""
        if self._begun is None:
            return
        variables = [variable for mean in self._means for variable in mean.variables]
        for variable, value in zip(variables, self._begun, strict=True):
            variable.assign(value)
        self._begun = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Goes on with an interval that was interrupted."""
        self._go_on()

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Keeps the means of the interval, in case its validation is interrupted."""
        self._begun = self._values()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Saves the classifier, where it is the best so far, and then the state."""
        logs = logs or {}
        self._check_finite()
        score = float(logs.get(self._selected_by, 0.0))
        # Of equal scores the later, longer trained one.
        if score >= best_score(self._folder, self._selected_by):
            self._save_best({"step": int(logs.get("step", 0)), self._selected_by: score})
        self.rows = [*self.rows, {"epoch": epoch, **dict(sorted(logs.items()))}]
        self.save()
        self._begun = None

    def _save_best(self, about: dict[str, Any]) -> None:
        """Says first what the new file is, so that a kill before the rename can be made up for."""
        path = best_weights(self._folder)
        draft = files.draft_path(path)
        with files.translate_write_errors(path, RuntimeError):  # the latter of HDF5
            # HDF5 ends the process where it can't write: room for weights and their names.
            weights = self.model.inference_model.weights
            files.check_space(draft, sum(4096 + 8 * int(np.prod(w.shape)) for w in weights))
            self.model.inference_model.save_weights(draft)
            files.fsync(draft)
            about = about | {"sha256": files.sha256(draft)}
            files.write_checksummed_json(about_best(self._folder), about)
            files.commit_draft(draft, path)

    def save(self) -> None:
        """Saves the state as it is now; once for each step.

        Raises:
            NotFinite: a weight isn't finite.
            UserError: the disk is full or read-only; the states before are kept.
        """
        step = int(self.model.optimizer.iterations.numpy())
        manifest = self._folder / f"state-{step}.json"
        there = State.read(manifest)
        digests = self._write(step) if there is None else there.files
        content = {"step": step, "files": digests, "history": self.rows}
        files.write_checksummed_json(manifest, content)
        for old in manifests(self._folder)[_KEPT:]:
            remove(old)

    def _write(self, step: int) -> dict[str, str]:
        """Writes the files of a state and returns their digests."""
        self._check_finite()
        self._go_on()
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
