"""Weights that a device learned, in a file: .npz, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_srt.device.trainer import Trainer

_STATE, _STEP, _MODEL = "state/", "step", "model"


class BadWeights(ValueError):
    """A weights file that can't be used; the text names it and says why."""


class Learned(NamedTuple):
    """What a training on the device leaves.

    Attributes:
        state: what `Trainer.get_weights` gives.
        step: steps done.
        model: SHA-256 of the .tflite file that learned.
    """

    state: Mapping[str, np.ndarray]
    step: int
    model: str


def save_weights(path: str | Path, learned: Learned) -> None:
    """Writes a file so that a power cut leaves the old one or the new one, never half of it.

    Args:
        path: of the .npz file; one that is there is replaced.
        learned: its content.

    Raises:
        OSError: it can't be written; the old file is as it was.
    """
    path = Path(path)
    arrays = {_STATE + name: values for name, values in learned.state.items()}
    arrays |= {_STEP: np.int64(learned.step), _MODEL: np.str_(learned.model)}
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        _sync_folder(path.parent)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def load_weights(path: str | Path, model: str) -> Learned:
    """Reads what `save_weights` wrote.

    Args:
        path: of the .npz file.
        model: SHA-256 of the .tflite file that is to use the weights.

    Returns:
        Its content; whether the shapes are the model's is for `Trainer.set_weights` to say.

    Raises:
        BadWeights: the file is missing, damaged, not finite, or of another model.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        learned = Learned(
            {k.removeprefix(_STATE): v for k, v in arrays.items() if k.startswith(_STATE)},
            int(arrays[_STEP]),
            str(arrays[_MODEL]),
        )
    except OSError as error:
        raise BadWeights(f"{path}: can't be read ({error.strerror or error})") from error
    # What NumPy and zipfile raise on damaged archives.
    except (ValueError, KeyError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise BadWeights(f"{path}: is damaged or holds no learned weights ({error})") from error
    if learned.model != model:
        raise BadWeights(
            f"{path}: was learned by another model file (SHA-256 {learned.model[:12]}…, this one "
            f"is {model[:12]}…); give the one that learned it"
        )
    if not all(np.isfinite(values).all() for values in learned.state.values()):
        raise BadWeights(f"{path}: has weights that are not finite; learn them anew")
    return learned


def restore(trainer: Trainer, path: str | Path) -> Learned:
    """Gives a trainer the weights of a file.

    Args:
        trainer: it answers and goes on learning with them.
        path: of the .npz file.

    Returns:
        What the file holds.

    Raises:
        BadWeights: it can't be used; the trainer is as it was.
    """
    learned = load_weights(path, trainer.checksum)
    try:
        trainer.set_weights(learned.state)
    except ValueError as error:
        raise BadWeights(f"{path}: {error}") from error
    return learned


def _sync_folder(folder: Path) -> None:
    """The rename, too, must survive a power cut; Windows can't open folders and needs not."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
