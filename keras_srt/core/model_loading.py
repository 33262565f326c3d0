"""Load Keras files and SavedModels, checked by `model_safety`; nothing else loads them."""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_srt.core.errors import UserError
from keras_srt.core.last_activation import remove_last_activation
from keras_srt.core.model_safety import check_keras_file, refused_operations
from keras_srt.core.scratch_folders import scratch_folder
from keras_srt.core.tensorflow import keras, tf

# Where each major version of Keras is installed.
_PYTHONS = {"2": "3.10 or 3.11", "3": "3.12 or newer"}
_MAX_METADATA = 10_000  # bytes
_CONTENT, _VARIABLES, _ASSETS = "saved_model.pb", "variables", "assets"


def load_keras_file(path: Path) -> keras.Model:
    """Load a `.keras` file of allowed parts, without the state of its training.

    Args:
        path: The file.

    Raises:
        UserError: The file is of another Keras, or can't be loaded, see `check_keras_file`.
    """
    _check_version(path)
    check_keras_file(path)
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"--model {path}: can't be loaded ({reason[:120]})") from error


def _check_version(path: Path) -> None:
    """Reject a file of Keras 3 where Keras 2 is installed, and the reverse."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("metadata.json") as file:
            saved = str(json.loads(file.read(_MAX_METADATA))["keras_version"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile):
        return  # `check_keras_file` names the problem
    major = saved.partition(".")[0]
    if major in _PYTHONS and major != keras.__version__.partition(".")[0]:
        raise UserError(
            f"--model {path}: was saved by Keras {saved}, and Keras {keras.__version__} is "
            "installed here, which can't load it; convert it where it was saved, "
            'model.export("folder") writes a SavedModel that is accepted here; or use keras_srt '
            f"on Python {_PYTHONS[major]}, which has Keras {major}"
        )


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
    logger = tf.get_logger()
    logger.addFilter(_is_no_reference_variable)
    try:
        return tf.saved_model.load(str(folder))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise _unloadable(folder, error) from error
    finally:
        logger.removeFilter(_is_no_reference_variable)


def _is_no_reference_variable(record: logging.LogRecord) -> bool:
    """Whether a warning is another one than that of each variable of TensorFlow 1."""
    return "it is a reference variable" not in record.getMessage()


def _unloadable(folder: Path, error: Exception) -> UserError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UserError(f"--model {folder}: can't be loaded ({reason[:200]})")


def load_session(folder: Path, foreign: bool = False) -> tuple[Any, Any]:
    """Load a SavedModel of allowed operations into a session, as TF Serving does.

    In TensorFlow 2.15, each call of a signature of `load_savedmodel` leaks about 300 bytes, and
    `Session.run` none.

    Args:
        folder: The folder with `saved_model.pb`.
        foreign: Whether to load a SavedModel with any operations.

    Returns:
        A `tf.compat.v1.Session` and the `MetaGraphDef`, which names the tensors of the signatures.

    Raises:
        UserError: The SavedModel can't be loaded, see `check_savedmodel`.
    """
    if not foreign:
        check_savedmodel(folder)
    try:
        with without_deprecations(), tf.Graph().as_default() as graph:
            session = tf.compat.v1.Session(graph=graph)
            return session, tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
    except (OSError, RuntimeError, ValueError, tf.errors.OpError) as error:
        raise _unloadable(folder, error) from error


@contextlib.contextmanager
def without_deprecations() -> Iterator[None]:
    """Hide TensorFlow's warnings that functions of TensorFlow 1 are deprecated."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)


def load_without_last_activation(
    folder: Path, signature: str, output: str, foreign: bool = False
) -> tuple[Any, str] | None:
    """Load a SavedModel whose output is the logits before its last softmax or sigmoids.

    The model is loaded from a temporary folder that has the changed graph and links to the
    variables.

    Args:
        folder: The folder with `saved_model.pb`.
        signature: The name of a signature.
        output: The name of an output of the signature.
        foreign: Whether to load a SavedModel with any operations.

    Returns:
        The model and "softmax" or "sigmoid"; None if the output is made by another operation.

    Raises:
        UserError: The SavedModel can't be loaded, see `load_savedmodel`.
    """
    saved = _read_savedmodel(folder)
    activation = remove_last_activation(saved.meta_graphs[0], signature, output)
    if activation is None:
        return None
    try:
        with scratch_folder(Path(tempfile.gettempdir()), "keras-srt-model-") as changed:
            (changed / _CONTENT).write_bytes(saved.SerializeToString())
            for name in (_VARIABLES, _ASSETS):
                (changed / name).symlink_to((folder / name).absolute())
            return load_savedmodel(changed, foreign), activation
    except OSError as error:
        raise UserError(f"--model {folder}: can't be loaded ({error})") from error


def check_savedmodel(folder: Path) -> None:
    """Reject a SavedModel with operations that image classifiers don't consist of.

    Args:
        folder: The folder with `saved_model.pb`.

    Raises:
        UserError: The model has an operation that isn't in `allowed_parts`, such as one that
            accesses files or runs Python code, or cannot be read.
    """
    refused = refused_operations(_read_savedmodel(folder))
    if refused:
        more = f" and {len(refused) - 5} more" if len(refused) > 5 else ""
        raise UserError(
            f"--model {folder}: has the operations {', '.join(refused[:5])}{more}, of which image "
            "classifiers don't consist; a SavedModel is a program that can read and write files; "
            "give --foreign to run it anyway, if you trust its origin"
        )


def _read_savedmodel(folder: Path) -> Any:
    """Parse `saved_model.pb`."""
    _ = tf.__version__  # import TensorFlow without start-up noise
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        # TensorFlow prefers this file, whose parts are spread over other files.
        if (folder / "saved_model.cpb").exists():
            raise OSError("saved_model.cpb can't be checked")
        return saved_model_pb2.SavedModel.FromString((folder / _CONTENT).read_bytes())
    except (OSError, DecodeError) as error:
        raise UserError(f"--model {folder}: can't be loaded ({error})") from error
