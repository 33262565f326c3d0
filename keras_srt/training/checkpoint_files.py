"""Checkpoint files: saved states, the best classifier, and detection of damaged files."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_srt.core import files
from keras_srt.core.errors import UserError

# Validation metrics, one of which selects the best classifier.
CLEAN, ROBUST = "val_accuracy", "val_robust_accuracy"
# The mean and the lowest accuracy of the classes.
BALANCED, WORST = "val_balanced_accuracy", "val_worst_class_accuracy"
# The number of validations without improvement, if the training can stop early.
WAITED = "validations_waited"
_WAY_OUT = (
    "restore it, or remove best.weights.h5 and best.json: --resume then selects the best of the "
    "remaining training"
)


def not_finite(what: Sequence[str], step: int) -> str:
    """The message about values that became NaN or infinite after a step."""
    return (
        f"training: {', '.join(what)} after step {step}; lower training.learning_rate, raise "
        "training.strength_warmup, check the images, or set training.on_nan to roll back; the last "
        "good checkpoint is kept"
    )


class State(NamedTuple):
    """A saved state of training, read from its manifest `state-STEP.json`, which is written last.

    Attributes:
        manifest: Path of the manifest.
        step: Number of completed steps.
        files: SHA-256 of each file, by name.
        rows: The history so far.
    """

    manifest: Path
    step: int
    files: dict[str, str]
    rows: list[dict[str, Any]]

    @property
    def prefix(self) -> Path:
        """TensorFlow's path prefix of the checkpoint files."""
        return self.manifest.with_suffix("")

    @classmethod
    def read(cls, manifest: Path) -> State | None:
        """Read a state; None if its manifest or one of its files is damaged or missing."""
        try:
            content = files.read_checksummed_json(manifest)
            state = cls(manifest, *(content[key] for key in ("step", "files", "history")))
            paths = {manifest.with_name(name): found for name, found in state.files.items()}
            whole = manifest.name == f"state-{state.step}.json"
            whole = whole and all(files.sha256(path) == found for path, found in paths.items())
        except (OSError, ValueError, KeyError):
            return None
        return state if whole else None


def remove(manifest: Path) -> None:
    """Remove a state. The manifest is removed first: files without a manifest are ignored."""
    manifest.unlink(missing_ok=True)
    for path in manifest.parent.glob(f"{manifest.stem}.*"):
        path.unlink()


def manifests(folder: Path) -> list[Path]:
    """The manifests of the states in a folder, newest first.

    Example:
        >>> manifests(Path("no-such-folder"))
        []
    """
    found = [path for path in folder.glob("state-*.json") if path.stem[6:].isdecimal()]
    return sorted(found, key=lambda path: int(path.stem[6:]), reverse=True)


def best_weights(folder: Path) -> Path:
    """The path of the best classifier in a folder of checkpoints."""
    return folder / "best.weights.h5"


def about_best(folder: Path) -> Path:
    """The path of its description: step, score and checksum."""
    return folder / "best.json"


def best_score(folder: Path, selected_by: str) -> float:
    """The score of the best classifier so far, or -1."""
    return float(_read_about(folder).get(selected_by, -1.0))


def find_best(folder: Path) -> Path | None:
    """Find the undamaged file of the best classifier; nothing is written.

    Args:
        folder: The folder of the checkpoints. A training may be writing to it.

    Returns:
        best.weights.h5, or its draft if a kill prevented the rename; None if there is none yet.

    Raises:
        UserError: best.weights.h5 or best.json is damaged or missing.
    """
    path, about = best_weights(folder), _read_about(folder)
    if not about and not path.is_file():
        return None
    # Earlier versions wrote no checksum.
    if about and "sha256" not in about and path.is_file():
        return path
    for candidate in (path, files.draft_path(path), path):  # renamed meanwhile
        with contextlib.suppress(FileNotFoundError):
            if files.sha256(candidate) == about.get("sha256"):
                return candidate
    raise UserError(f"{path}: or best.json is damaged or missing; {_WAY_OUT}")


def complete_best(folder: Path) -> None:
    """Complete the rename of the best classifier that a kill prevented.

    Args:
        folder: The folder of the checkpoints, to which no other process may write.

    Raises:
        UserError: best.weights.h5 or best.json is damaged or missing.
    """
    found = find_best(folder)
    if found is not None and found != best_weights(folder):
        os.replace(found, best_weights(folder))


def _read_about(folder: Path) -> dict[str, Any]:
    path = about_best(folder)
    if not path.is_file():
        return {}
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(about, dict) and about.keys() <= {"step", CLEAN, ROBUST}:
            return about  # written by an earlier version
        return files.read_checksummed_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: is damaged; {_WAY_OUT}") from error
