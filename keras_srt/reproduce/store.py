"""Trained models on disk, recognized by what makes them."""

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

# What a trained model depends on; the name, the evaluation and the export are no part of it.
_MAKES_A_MODEL = ("data", "model", "neighborhood", "objective", "training", "seed")
_SHOWN_DIGITS = 10


def fingerprint(config: Config) -> str:
    """What tells a trained model from every other: equal for equal trainings.

    It is computed from the parsed config, with all defaults, so that a file written before a
    setting existed has the fingerprint that it would have today.

    Args:
        config: of a run.

    Returns:
        A SHA-256 hash in hexadecimal.
    """
    return digest({key: settings_of(getattr(config, key)) for key in _MAKES_A_MODEL})


def digest(settings: Mapping[str, Any]) -> str:
    """The SHA-256 hash of settings, whatever their order."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Stored(NamedTuple):
    """A run on disk.

    Attributes:
        run: its folder.
        config: as it lies there.
    """

    run: RunFolder
    config: Config


class Store:
    """The runs of a folder, by fingerprint.

    Args:
        folder: its sub-folders are runs, whatever their names.

    Attributes:
        unreadable: sub-folders with a config that this version can't read.
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
        """The run that was trained as a config says: the one furthest on, if there are several.

        Args:
            config: of the training wanted.
            steps: of the whole training.
        """
        runs = self._runs.get(fingerprint(config), [])
        return max(runs, key=lambda stored: steps_done(stored.run, steps), default=None)

    def claim(self, config: Config) -> Stored:
        """A new run folder for a config: its name and the start of its fingerprint.

        Raises:
            UserError: the folder can't be written, or holds something else.
        """
        mark = fingerprint(config)
        run = RunFolder(self.folder / f"{config.name}-{mark[:_SHOWN_DIGITS]}")
        run.claim(config.to_json(), resume=True)
        stored = Stored(run, config)
        self._runs.setdefault(mark, []).append(stored)
        return stored


def steps_done(run: RunFolder, steps: int) -> int:
    """How far a training is; all its steps only once the last validation is there, too."""
    history = run.read_history()
    validated = max((int(row["step"]) for row in history), default=0)
    return min(validated, steps) if run.best_weights.is_file() else 0


def train_seconds(run: RunFolder) -> float:
    """How long the training of a run took, with its validations and its teacher, if it has one."""
    stages = run, run.teacher
    # A resumed run repeats the steps since its checkpoint: the last ones count.
    return sum(
        sum({row["step"]: float(row["seconds"]) for row in stage.read_history()}.values())
        for stage in stages
    )
