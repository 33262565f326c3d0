"""Run folders: what a run leaves behind, and whether a new one may use the folder."""

from __future__ import annotations

import csv
import dataclasses
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_srt.checks import UserError
from keras_srt.lazy import tf

_PACKAGES = (
    "keras-srt",
    "tensorflow",
    "keras",
    "tensorflow-addons",
    "tensorflow-datasets",
    "numpy",
)

# A run may go on with other wording, or on other devices.
_NO_MATTER = ("description", "training.strategy")


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
        """Losses and validation accuracies of each interval."""
        return self.path / "history.csv"

    @property
    def checkpoints(self) -> Path:
        """States of training and the best classifier."""
        return self.path / "checkpoints"

    @property
    def last_state(self) -> str:
        """The name of the last state of training, empty if there is none yet."""
        return Path(tf.train.latest_checkpoint(str(self.checkpoints)) or "").name

    @property
    def best_weights(self) -> Path:
        """The best classifier on validation images, see `Checkpoints`."""
        return self.checkpoints / "best.weights.h5"

    @property
    def teacher(self) -> RunFolder:
        """History and checkpoints of the classifier that labels the unlabeled images."""
        return RunFolder(self.path / "teacher")

    @property
    def pseudo_labels(self) -> Path:
        """Its answers, one for each unlabeled image of the split."""
        return self.teacher.path / "pseudo_labels.npy"

    @property
    def teacher_summary(self) -> Path:
        """What it was, for the reports."""
        return self.teacher.path / "teacher.json"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard log."""
        return self.path / "tensorboard"

    @property
    def report(self) -> Path:
        """Results."""
        return self.path / "report.json"

    @property
    def attacked(self) -> Path:
        """Attacked test images, for the exported files."""
        return self.path / "attacked.npz"

    def claim(
        self, config_json: str, resume: bool, read: Callable[[Path], str] = Path.read_text
    ) -> None:
        """Makes the folder this run's, or refuses and changes nothing.

        Args:
            config_json: the resolved config.
            resume: whether to go on with what lies there.
            read: gives the config of the run that lies there, as JSON; a run may be older than
                some settings, which then have their defaults.

        Raises:
            UserError: the folder can't be written, belongs to another config, or holds
                this run already and `resume` is false.
        """
        if self.config.is_file():
            self._check_same(config_json, read)
            if self.report.is_file() and not resume:
                raise UserError(
                    f"{self.path}: holds this run, finished (see {self.report}); give another "
                    "--run-dir to train anew, or use `keras-srt evaluate --run` on this one"
                )
            if not resume:
                raise UserError(
                    f"{self.path}: holds this run, not finished; give --resume to go on with it, "
                    "or another --run-dir to start anew"
                )
            return
        if self.path.is_dir() and any(self.path.iterdir()):
            raise UserError(
                f"{self.path}: is not empty and not a run (no config.json); give another --run-dir"
            )
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self.config.write_text(config_json)
            environment = json.dumps(describe_environment(), indent=2)
            (self.path / "environment.json").write_text(environment)
        except OSError as error:
            raise UserError(
                f"{self.path}: can't be written ({error.strerror}); give another --run-dir"
            ) from error

    def _check_same(self, config_json: str, read: Callable[[Path], str]) -> None:
        try:
            there = json.loads(read(self.config))
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self.config}: can't be read ({error}); give another --run-dir"
            ) from error
        asked = json.loads(config_json)
        different = sorted(_differences(there, asked))
        if different:
            raise UserError(
                f"{self.path}: belongs to another config (different: {', '.join(different[:5])}); "
                "give another --run-dir, or --set name=… for a folder of its own"
            )

    def read_history(self) -> list[dict[str, str]]:
        """The rows of history.csv; none if there is no file yet."""
        if not self.history.is_file():
            return []
        with self.history.open(newline="") as file:
            return list(csv.DictReader(file))


def _differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Paths of the keys whose values differ, but for what leaves the results as they are."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = []
        for key in one.keys() | other.keys():
            here = f"{path}.{key}" if path else key
            if here in _NO_MATTER:
                continue
            found += _differences(one.get(key), other.get(key), here)
        return found
    return [] if one == other else [path]


def describe_environment() -> dict[str, Any]:
    """Versions, machine and devices, for `environment.json`."""
    versions = {}
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


def write_json(path: Path, content: Any) -> None:
    """Writes JSON so that a kill leaves the old file or the new one, never half of it."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(draft, path)
