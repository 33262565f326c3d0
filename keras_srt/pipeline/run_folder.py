"""Run folders: the files of a run, and the checks before a run uses a folder."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import importlib.metadata
import json
import logging
import math
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from keras_srt.core.errors import UserError
from keras_srt.core.files import is_draft, remove_drafts, write_json, write_text
from keras_srt.core.locks import try_lock
from keras_srt.core.tensorflow import tf
from keras_srt.training.checkpoint_files import best_weights, manifests

logger = logging.getLogger(__name__)

_PACKAGES = (
    "keras-srt",
    "keras",
    "tensorflow",
    "tensorflow-addons",
    "tensorflow-datasets",
    "numpy",
)

# The file that a process locks while it uses a folder, and the files of a run without a config.
_LOCK = ".lock"
_BEGUN = (_LOCK, "checkpoints", "environment.json")

# The folders that this process has locked.
_HELD: set[Path] = set()

# Settings that may change when a run is resumed.
_CHANGEABLE = ("description", "training.strategy")


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The files of a run.

    Args:
        path: `runs/<name>`.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.json"

    @property
    def split(self) -> Path:
        """Which images are labeled, unlabeled and for validation."""
        return self.path / "split.json"

    @property
    def history(self) -> Path:
        """The losses and validation accuracies of each interval."""
        return self.path / "history.csv"

    @property
    def checkpoints(self) -> Path:
        """The states of training and the best classifier."""
        return self.path / "checkpoints"

    @property
    def last_state(self) -> str:
        """The name of the last state of training; empty if there is none yet."""
        found = manifests(self.checkpoints)
        return found[0].stem if found else ""

    @property
    def last_step(self) -> int:
        """The step of the last state of training; 0 if there is none yet."""
        return int(self.last_state.rpartition("-")[2] or 0)

    @property
    def rollbacks(self) -> Path:
        """The reasons of the rollbacks of a training, see `OnNaNSettings`."""
        return self.checkpoints / "retreats.json"

    @property
    def best_weights(self) -> Path:
        """The best classifier on validation images, see `Checkpoints`."""
        return best_weights(self.checkpoints)

    @property
    def teacher(self) -> RunFolder:
        """The history and the checkpoints of the teacher that labels the unlabeled images."""
        return RunFolder(self.path / "teacher")

    @property
    def pseudo_labels(self) -> Path:
        """The teacher's labels, one for each unlabeled image of the split."""
        return self.teacher.path / "pseudo_labels.npy"

    @property
    def teacher_summary(self) -> Path:
        """The summary of the teacher for the reports."""
        return self.teacher.path / "teacher.json"

    @property
    def tensorboard(self) -> Path:
        """The TensorBoard log."""
        return self.path / "tensorboard"

    @property
    def report(self) -> Path:
        """The results of the evaluation."""
        return self.path / "report.json"

    @property
    def evaluation(self) -> Path:
        """The finished parts of an evaluation that isn't in report.json yet."""
        return self.path / "evaluation"

    @property
    def export(self) -> Path:
        """The version that the run published, or is about to publish."""
        return self.path / "export.json"

    @property
    def attacked(self) -> Path:
        """Attacked test images for the evaluation of exported files."""
        return self.path / "attacked.npz"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Lock the folder against other processes while the body runs.

        Raises:
            UserError: Another process holds the lock, or the folder can't be made or is no run.
        """
        self._check_own()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / _LOCK).open("a+")
        except OSError as error:
            raise self._not_writable(error) from error
        held = self.path.resolve()
        with file:
            if not self._try_lock(file):
                file.seek(0)
                holder = file.read(100).strip() or "another process"
                raise UserError(
                    f"{self.path}: {holder} is training in this folder; wait until it ends, or "
                    "give another folder"
                )
            try:
                file.truncate(0)
                os.write(file.fileno(), f"process {os.getpid()} on {platform.node()}".encode())
                remove_drafts(self.path)
            except OSError as error:
                raise self._not_writable(error) from error
            _HELD.add(held)
            try:
                yield
            finally:
                _HELD.discard(held)

    def _try_lock(self, file: TextIO) -> bool:
        """Return whether no other process holds the lock."""
        try:
            return try_lock(file.fileno())
        except OSError as error:  # some network file systems have no locks
            logger.warning(
                "%s: can't be locked (%s); start no second training in this folder",
                self.path,
                error.strerror,
            )
            return True

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Lock the folder while the body runs, unless this process has locked it; see `held`."""
        with contextlib.nullcontext() if self.path.resolve() in _HELD else self.held():
            yield

    def _check_own(self) -> None:
        """Check that an existing folder holds no files that aren't a run's."""
        if self.path.is_dir() and not self.config.is_file():
            names = {path.name for path in self.path.iterdir()}
            if any(name not in _BEGUN and not is_draft(name) for name in names):
                raise UserError(
                    f"{self.path}: is not empty and not a run (no config.json); give another "
                    "--run-dir"
                )

    def _not_writable(self, error: OSError) -> UserError:
        return UserError(
            f"{self.path}: can't be written ({error.strerror}); give another --run-dir"
        )

    def claim(
        self, config_json: str, resume: bool, read: Callable[[Path], str] = Path.read_text
    ) -> None:
        """Make the folder that of a run, or raise an error and change nothing.

        Args:
            config_json: The resolved config.
            resume: Whether to resume the run in the folder, which may become longer.
            read: Reads the config of the run in the folder as JSON. In a run that is older than
                a setting, the setting has its default.

        Raises:
            UserError: The folder can't be written, belongs to another config, or already holds
                this run and `resume` is false.
        """
        if self.config.is_file():
            if self._is_longer(config_json, read) and resume:
                self._extend(config_json)
            if self.report.is_file() and self.export.is_file() and not resume:
                raise UserError(
                    f"{self.path}: holds this run, finished (see {self.report}); give another "
                    "--run-dir to train again, --resume with more training.steps to train longer, "
                    "or use `keras-srt evaluate --run` on this one"
                )
            if not resume:
                raise UserError(
                    f"{self.path}: holds this run, not finished; give --resume to continue it, "
                    "or another --run-dir to start again"
                )
            return
        self._check_own()
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._not_writable(error) from error
        write_json(self.path / "environment.json", describe_environment())
        write_text(self.config, config_json)  # last, because it makes the folder a run

    def _is_longer(self, config_json: str, read: Callable[[Path], str]) -> bool:
        """Return whether a config is the run's with a longer training, else check that it is equal.

        Raises:
            UserError: The folder belongs to another config.
        """
        try:
            existing = json.loads(read(self.config))
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self.config}: can't be read ({error}); give another --run-dir"
            ) from error
        config = json.loads(config_json)
        different = sorted(_differences(existing, config))
        if different in (["training.steps"], ["training.epochs"]):
            key = different[0].partition(".")[2]
            if (config["training"][key] or 0) > (existing["training"][key] or math.inf):
                return True
        if different:
            raise UserError(
                f"{self.path}: belongs to another config (different: {', '.join(different[:5])}); "
                "give another --run-dir, or --set name=… for a folder of its own"
            )
        return False

    def _extend(self, config_json: str) -> None:
        """Make the run longer: remove what followed its training, and last replace its config."""
        self.report.unlink(missing_ok=True)
        shutil.rmtree(self.evaluation, ignore_errors=True)
        self.export.unlink(missing_ok=True)
        write_text(self.config, config_json)

    def read_history(self) -> list[dict[str, str]]:
        """Read the rows of history.csv; none if there is no file yet.

        Raises:
            UserError: The file is damaged.
        """
        if not self.history.is_file():
            return []
        try:
            with self.history.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            for row in rows:
                int(row["step"])
                if None in row or None in row.values():
                    raise ValueError("a row has too many values or too few")
        except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
            raise UserError(
                f"{self.history}: can't be read ({type(error).__name__}: {error}); remove it, and "
                "`train --resume` writes it again from the checkpoints"
            ) from error
        return rows


def _differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Return the paths of the keys whose values differ, without those that may change."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = []
        for key in one.keys() | other.keys():
            here = f"{path}.{key}" if path else key
            if here in _CHANGEABLE:
                continue
            found += _differences(one.get(key), other.get(key), here)
        return found
    return [] if one == other else [path]


def describe_environment() -> dict[str, Any]:
    """Describe versions, machine and devices for `environment.json`."""
    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "devices": [f"{d.device_type} {d.name}" for d in tf.config.list_physical_devices()],
        "packages": versions,
        "command": sys.argv,
    }
