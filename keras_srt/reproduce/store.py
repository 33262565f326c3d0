"""Trained runs on disk, found by a fingerprint of their training settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from keras_srt.config.schema import Config
from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.registry import settings_of
from keras_srt.pipeline.configs import load_run_config
from keras_srt.pipeline.run_folder import RunFolder

# The config sections that determine a trained model, unlike name, evaluation and export.
_TRAINING_SECTIONS = ("data", "model", "neighborhood", "objective", "training", "seed")
_SHOWN_DIGITS = 10


def fingerprint(config: Config) -> str:
    """Compute a hash of the settings that determine a trained model.

    The hash covers the parsed config with all defaults, so a file that was written before a
    setting existed has the fingerprint of the setting's default.

    Args:
        config: The run's configuration.

    Returns:
        A SHA-256 hash in hexadecimal.
    """
    return digest({key: settings_of(getattr(config, key)) for key in _TRAINING_SECTIONS})


def digest(settings: Mapping[str, Any]) -> str:
    """Compute a SHA-256 hash of settings that doesn't depend on their order."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Stored(NamedTuple):
    """A run on disk.

    Attributes:
        run: The run folder.
        config: The config in this folder.
    """

    run: RunFolder
    config: Config


class Store:
    """The runs in a folder, by fingerprint.

    Args:
        folder: A folder whose subfolders are runs, with any names.

    Attributes:
        unreadable: Subfolders with a config that this version can't read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unreadable: list[Path] = []
        self._runs: dict[str, list[Stored]] = {}
        for path in sorted(folder.glob("*/config.json")):
            run = RunFolder(path.parent)
            try:
                config = load_run_config(run)
            except (InvalidSettings, UserError):
                self.unreadable.append(run.path)
                continue
            self._runs.setdefault(fingerprint(config), []).append(Stored(run, config))

    def find(self, config: Config, steps: int) -> Stored | None:
        """Return the run with the training settings of a config and the most finished steps.

        Args:
            config: The configuration to find.
            steps: The steps of the complete training.
        """
        runs = self._runs.get(fingerprint(config), [])
        return max(runs, key=lambda stored: steps_done(stored.run, steps), default=None)

    def claim(self, config: Config) -> Stored:
        """Create a run folder, named by the config's name and the start of its fingerprint.

        Raises:
            UserError: The folder can't be written, or has other contents.
        """
        mark = fingerprint(config)
        run = RunFolder(self.folder / f"{config.name}-{mark[:_SHOWN_DIGITS]}")
        with run.writing():
            run.claim(config.to_json(), resume=True)
        stored = Stored(run, config)
        self._runs.setdefault(mark, []).append(stored)
        return stored


def steps_done(run: RunFolder, steps: int) -> int:
    """Count the finished and validated training steps."""
    history = run.read_history()
    validated = max((int(row["step"]) for row in history), default=0)
    return min(validated, steps) if run.best_weights.is_file() else 0


def train_seconds(run: RunFolder) -> float:
    """Sum the seconds of a training, including validation and the teacher."""
    stages = run, run.teacher
    # A resumed run repeats the steps after its checkpoint; the last repetition counts.
    return sum(
        sum({row["step"]: float(row["seconds"]) for row in stage.read_history()}.values())
        for stage in stages
    )
