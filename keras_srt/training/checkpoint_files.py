"""The states of a training and its best classifier on the disk: whole, or known to be damaged."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_srt.core import files
from keras_srt.core.errors import UserError

# Which way to look: the best checkpoint is the one of the highest.
CLEAN, ROBUST = "val_accuracy", "val_robust_accuracy"
_WAY_OUT = (
    "restore it, or remove best.weights.h5 and best.json: --resume then chooses the best of what "
    "is still trained"
)


def not_finite(what: Sequence[str], step: int) -> str:
    """The line for what became NaN or infinite after a step."""
    return (
        f"training: {', '.join(what)} after step {step}; lower training.learning_rate, raise "
        "training.strength_warmup, check the images, or have it go back by training.on_nan; the "
        "last good checkpoint is kept"
    )


class State(NamedTuple):
    """A saved state of training, by its manifest `state-STEP.json`, which is written last.

    Attributes:
        manifest: its path.
        step: after which it was saved.
        files: SHA-256 of each of its files, by name.
        rows: of the history so far.
    """

    manifest: Path
    step: int
    files: dict[str, str]
    rows: list[dict[str, Any]]

    @property
    def prefix(self) -> Path:
        """What TensorFlow takes for the name of its files."""
        return self.manifest.with_suffix("")

    @classmethod
    def read(cls, manifest: Path) -> State | None:
        """The state of a manifest; None if it or one of its files is damaged or missing."""
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
    """Removes a state: the manifest first, as without it the files count for nothing."""
    manifest.unlink(missing_ok=True)
    for path in manifest.parent.glob(f"{manifest.stem}.*"):
        path.unlink()


def manifests(folder: Path) -> list[Path]:
    """The manifests of the states in a folder, the newest first.

    Example:
        >>> manifests(Path("no-such-folder"))
        []
    """
    found = [path for path in folder.glob("state-*.json") if path.stem[6:].isdecimal()]
    return sorted(found, key=lambda path: int(path.stem[6:]), reverse=True)


def best_weights(folder: Path) -> Path:
    """The best classifier of a folder of checkpoints."""
    return folder / "best.weights.h5"


def about_best(folder: Path) -> Path:
    """What it is: step, score, digest."""
    return folder / "best.json"


def best_score(folder: Path, selected_by: str) -> float:
    """The score of the best checkpoint so far, or -1."""
    return float(_read_about(folder).get(selected_by, -1.0))


def check_best(folder: Path) -> None:
    """Makes sure that the best classifier is as it was saved; nothing where there is none.

    Raises:
        UserError: it, or what is said of it in best.json, is damaged or missing.
    """
    path, about = best_weights(folder), _read_about(folder)
    if not about and not path.is_file():
        return
    # A version before this one kept no digests.
    if about and "sha256" not in about and path.is_file():
        return
    draft, digest = files.draft_path(path), about.get("sha256")
    if path.is_file() and files.sha256(path) == digest:
        return
    if draft.is_file() and files.sha256(draft) == digest:
        os.replace(draft, path)  # a kill came between the two
        return
    raise UserError(f"{path}: is damaged or missing, or best.json beside it is; {_WAY_OUT}")


def _read_about(folder: Path) -> dict[str, Any]:
    path = about_best(folder)
    if not path.is_file():
        return {}
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(about, dict) and about.keys() <= {"step", CLEAN, ROBUST}:
            return about  # of a version before this one
        return files.read_checksummed_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: is damaged; {_WAY_OUT}") from error
