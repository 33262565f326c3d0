"""Files of weights that were trained on a device (.npz)."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_srt.core.files import write_arrays
from keras_srt.device.trainer import Trainer

_STATE, _STEP, _MODEL = "state/", "step", "model"


class BadWeights(ValueError):
    """An unusable weights file; the message names the file and the reason."""


class TrainedWeights(NamedTuple):
    """The result of a training on a device.

    Attributes:
        state: The state, from `Trainer.get_weights`.
        step: The number of completed steps.
        model: The SHA-256 of the trained .tflite file.
    """

    state: Mapping[str, np.ndarray]
    step: int
    model: str


def save_weights(path: str | Path, weights: TrainedWeights) -> None:
    """Write a weights file atomically.

    Args:
        path: The .npz file; an existing file is replaced.
        weights: The weights.

    Raises:
        UserError: The file cannot be written; an existing file is unchanged.
    """
    arrays = {_STATE + name: values for name, values in weights.state.items()}
    arrays |= {_STEP: np.int64(weights.step), _MODEL: np.str_(weights.model)}
    write_arrays(Path(path), **arrays)


def load_weights(path: str | Path, model: str) -> TrainedWeights:
    """Read a file that `save_weights` wrote.

    Args:
        path: The .npz file.
        model: The SHA-256 of the .tflite file that will use the weights.

    Returns:
        The weights; `Trainer.set_weights` checks their shapes.

    Raises:
        BadWeights: The file is missing, damaged, not finite, or belongs to another model.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        weights = TrainedWeights(
            {k.removeprefix(_STATE): v for k, v in arrays.items() if k.startswith(_STATE)},
            int(arrays[_STEP]),
            str(arrays[_MODEL]),
        )
    except OSError as error:
        raise BadWeights(f"{path}: can't be read ({error.strerror or error})") from error
    # Exceptions of NumPy and zipfile for damaged archives.
    except (ValueError, KeyError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise BadWeights(f"{path}: is damaged or holds no trained weights ({error})") from error
    if weights.model != model:
        raise BadWeights(
            f"{path}: belongs to another model file (SHA-256 {weights.model[:12]}…, this one is "
            f"{model[:12]}…); give the model file that was trained"
        )
    if not all(np.isfinite(values).all() for values in weights.state.values()):
        raise BadWeights(f"{path}: has weights that are not finite; train again")
    return weights


def restore(trainer: Trainer, path: str | Path) -> TrainedWeights:
    """Load the weights of a file into a trainer.

    Args:
        trainer: The trainer.
        path: The .npz file.

    Returns:
        The content of the file.

    Raises:
        BadWeights: The file is unusable; the trainer is unchanged.
    """
    weights = load_weights(path, trainer.checksum)
    try:
        trainer.set_weights(weights.state)
    except ValueError as error:
        raise BadWeights(f"{path}: {error}") from error
    return weights
