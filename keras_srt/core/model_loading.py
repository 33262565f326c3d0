"""Load Keras files and SavedModels, checked by `model_safety`; nothing else loads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keras_srt.core.errors import UserError
from keras_srt.core.model_safety import check_keras_file, refused_operations
from keras_srt.core.tensorflow import keras, tf


def load_keras_file(path: Path) -> keras.Model:
    """Load a `.keras` file of allowed parts, without the state of its training.

    Args:
        path: The file.

    Raises:
        UserError: The file can't be loaded, see `check_keras_file`.
    """
    check_keras_file(path)
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"--model {path}: can't be loaded ({reason[:120]})") from error


def load_savedmodel(folder: Path, foreign: bool = False) -> Any:
    """Load a SavedModel of allowed operations.

    Args:
        folder: The folder with `saved_model.pb`.
        foreign: Whether to load a SavedModel with any operations.

    Raises:
        UserError: The SavedModel can't be loaded, see `check_savedmodel`.
    """
    if not foreign:
        check_savedmodel(folder)
    try:
        return tf.saved_model.load(str(folder))
    except (OSError, ValueError, tf.errors.OpError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"--model {folder}: can't be loaded ({reason[:200]})") from error


def check_savedmodel(folder: Path) -> None:
    """Reject a SavedModel with operations that image classifiers don't consist of.

    Args:
        folder: The folder with `saved_model.pb`.

    Raises:
        UserError: The model has an operation that isn't in `allowed_parts`, such as one that
            accesses files or runs Python code, or cannot be read.
    """
    _ = tf.__version__  # import TensorFlow without start-up noise
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        # TensorFlow prefers this file, whose parts are spread over other files.
        if (folder / "saved_model.cpb").exists():
            raise OSError("saved_model.cpb can't be checked")
        content = (folder / "saved_model.pb").read_bytes()
        saved = saved_model_pb2.SavedModel.FromString(content)
    except (OSError, DecodeError) as error:
        raise UserError(f"--model {folder}: can't be loaded ({error})") from error
    refused = refused_operations(saved)
    if refused:
        more = f" and {len(refused) - 5} more" if len(refused) > 5 else ""
        raise UserError(
            f"--model {folder}: has the operations {', '.join(refused[:5])}{more}, of which image "
            "classifiers don't consist; a SavedModel is a program that can read and write files; "
            "give --foreign to run it anyway, if you trust its origin"
        )
