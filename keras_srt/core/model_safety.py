"""Safety checks of model files before they are loaded.

A model file can be a program: loading or calling it can run code, or read and write files.
"""

from __future__ import annotations

import json
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from keras_srt.core.errors import UserError
from keras_srt.core.tensorflow import tf

# The first bytes of pickles (from Python, NumPy or PyTorch) and of HDF5 files.
_PICKLES, _HDF5 = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"\x93NUMPY"), b"\x89HDF"
_PICKLE_SUFFIXES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".npy", ".npz")
_HDF5_SUFFIXES = (".h5", ".hdf5")
# The allowed modules of classes in a .keras file. Keras 2.15 calls any object that the file names,
# such as `keras.utils.get_file`, even in safe mode.
_KERAS_PACKAGES = ("keras", "tf_keras")
_KERAS_MODULES = (
    "activations",
    "constraints",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "mixed_precision",
    "models",
    "optimizers",
    "regularizers",
)
_MODEL_CLASSES = ("Functional", "Model", "Sequential")
_CUSTOM_LAYERS = (
    ("keras_srt.models.dropout", "Dropout"),
    ("keras_srt.models.batch_norm", "BatchNormalization"),
    ("keras_srt.models.convolution", "Conv2D"),
)
_MAX_UNPACKED_BYTES = 8 * 2**30
# Operations that run Python code or access files or the network.
_EXTERNAL_OPS = (
    "PyFunc",
    "PyFuncStateless",
    "EagerPyFunc",
    "NumpyFunction",
    "ReadFile",
    "WriteFile",
    "MatchingFiles",
    "PrintV2",
    "WholeFileReader",
    "WholeFileReaderV2",
    "TextLineDataset",
    "TFRecordDataset",
    "TFRecordDatasetV2",
    "FixedLengthRecordDataset",
    "FixedLengthRecordDatasetV2",
    "SqlDataset",
    "GeneratorDataset",
    "SaveDataset",
    "SaveDatasetV2",
    "LoadDataset",
    "RpcClient",
    "RpcCall",
    "DebugIdentityV2",
    "DebugIdentityV3",
)
# The signatures of a SavedModel that `keras-srt export` wrote.
_EXPORT_SIGNATURES = {"serving_default", "image"}


def check_file_format(path: Path) -> None:
    """Reject formats that can hold code: pickles, and Keras models in HDF5.

    Args:
        path: A file or folder; it may be missing.

    Raises:
        UserError: The file has such a format, by its suffix or its content.

    Example:
        >>> check_file_format(Path("model.keras"))
        >>> check_file_format(Path("model.pkl"))
        Traceback (most recent call last):
        ...
        keras_srt.core.errors.UserError: --model model.pkl: is a pickle, which runs code when it is
        opened; allowed: a SavedModel folder, a .keras or a .tflite file
    """
    start = b""
    if path.is_file():
        with path.open("rb") as file:
            start = file.read(8)
    if path.suffix in _PICKLE_SUFFIXES or start.startswith(_PICKLES):
        raise _refused(path, "is a pickle, which runs code when it is opened")
    if path.suffix in _HDF5_SUFFIXES or start.startswith(_HDF5):
        raise _refused(path, "is an HDF5 file, whose Lambda layers run code when it is opened")


def _refused(path: Path, why: str) -> UserError:
    return UserError(
        f"--model {path}: {why}; allowed: a SavedModel folder, a .keras or a .tflite file"
    )


def check_keras_file(path: Path) -> None:
    """Reject a `.keras` file that holds more than weights and a model of Keras' own classes.

    Args:
        path: The file.

    Raises:
        UserError: An entry of the archive is a link or has a path outside the archive, or the
            model contains code (Lambda layers, functions) or classes of other modules.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                _check_entry(path, entry)
            if sum(entry.file_size for entry in archive.infolist()) > _MAX_UNPACKED_BYTES:
                raise _refused(path, f"unpacks to more than {_MAX_UNPACKED_BYTES:,} bytes")
            config = json.loads(archive.read("config.json"))
            for part in _objects(config):
                _check_object(path, part)
    except (OSError, ValueError, KeyError, RecursionError, zipfile.BadZipFile) as error:
        raise UserError(
            f"--model {path}: can't be loaded ({type(error).__name__}: {str(error)[:120]})"
        ) from error


def _check_entry(path: Path, entry: zipfile.ZipInfo) -> None:
    inside = PurePosixPath(entry.filename.replace("\\", "/"))
    if inside.is_absolute() or ".." in inside.parts or ":" in entry.filename:
        raise _refused(path, f"would write outside of its folder ({entry.filename[:80]!r})")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise _refused(path, f"has a link in it ({entry.filename[:80]!r})")


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield all dictionaries in a JSON value."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _check_object(path: Path, part: dict[str, Any]) -> None:
    kind, module = part.get("class_name"), part.get("module")
    if kind in ("Lambda", "__lambda__", "function") or "__lambda__" in part:
        raise _refused(path, f"holds code ({kind})")
    if module is None or not isinstance(kind, str):
        return
    root, *inside = str(module).split(".")
    is_allowed = (inside[:1] and inside[0] in _KERAS_MODULES) or kind in _MODEL_CLASSES
    if not (root in _KERAS_PACKAGES and is_allowed) and (module, kind) not in _CUSTOM_LAYERS:
        raise _refused(path, f"names {module}.{kind}, which is not a class of Keras models")


def check_savedmodel(folder: Path) -> None:
    """Reject a SavedModel that `keras-srt export` did not write, or with external operations.

    Args:
        folder: The folder with `saved_model.pb`.

    Raises:
        UserError: The model lacks a signature of exported models, has an operation that runs
            Python code or accesses files or the network, or cannot be read.
    """
    _ = tf.__version__  # import TensorFlow without start-up noise
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        content = (folder / "saved_model.pb").read_bytes()
        saved = saved_model_pb2.SavedModel.FromString(content)
    except (OSError, DecodeError) as error:
        raise UserError(f"--model {folder}: can't be loaded ({error})") from error
    external = sorted(_operations(saved) & set(_EXTERNAL_OPS))
    signatures = {name for graph in saved.meta_graphs for name in graph.signature_def}
    if external or not signatures >= _EXPORT_SIGNATURES:
        problem = (
            f"has the operations {', '.join(external)}"
            if external
            else "was not written by `keras-srt export`"
        )
        raise UserError(
            f"--model {folder}: {problem}; a SavedModel is a program that can read and write "
            "files; give --foreign to run it anyway, or export a run with `keras-srt export`"
        )


def _operations(saved: Any) -> set[str]:
    """The names of all operations in the graphs and functions of a SavedModel."""
    found: set[str] = set()
    for graph in saved.meta_graphs:
        found.update(node.op for node in graph.graph_def.node)
        for function in graph.graph_def.library.function:
            found.update(node.op for node in function.node_def)
    return found
