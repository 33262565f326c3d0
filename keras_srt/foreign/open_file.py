"""Open a model file or folder of any kind."""

from __future__ import annotations

from pathlib import Path

from keras_srt.core.errors import UserError
from keras_srt.core.model_safety import check_file_format
from keras_srt.core.version_folders import version_folders
from keras_srt.foreign.keras_models import open_keras_file
from keras_srt.foreign.opened_model import OpenedModel
from keras_srt.foreign.savedmodels import open_savedmodel
from keras_srt.foreign.tflite_files import open_tflite

CONTENT = "saved_model.pb"


def open_file(path: Path, foreign: bool = False) -> OpenedModel:
    """Open a model of any program.

    Args:
        path: A SavedModel folder, or a folder with numbered versions of one, of which the newest
            is opened; a `.keras` or a `.tflite` file.
        foreign: Whether to run a SavedModel with any operations, see `load_savedmodel`.

    Raises:
        UserError: The file has another format, or can't be loaded.
    """
    check_file_format(path)
    if path.suffix == ".tflite":
        return open_tflite(path)
    if path.suffix == ".keras" and path.is_file():
        return open_keras_file(path)
    if not path.exists():
        raise UserError(f"--model {path}: no such file or folder")
    folder = newest_savedmodel(path)
    if folder is None:
        raise UserError(
            f"--model {path}: is none of a SavedModel folder (with {CONTENT}), a .keras file and "
            "a .tflite file"
        )
    return open_savedmodel(folder, foreign)


def newest_savedmodel(path: Path) -> Path | None:
    """Return a SavedModel folder, or the newest in a folder of versions; None if there is none."""
    if (path / CONTENT).is_file():
        return path
    found = version_folders(path) if path.is_dir() else {}
    versions = [number for number, folder in found.items() if (folder / CONTENT).is_file()]
    return found[max(versions)] if versions else None
