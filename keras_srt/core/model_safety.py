"""Model files from elsewhere, looked at before they are opened: a model can be a program.

What is refused could run code, or read and write files, when it is loaded or asked.
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

# How files begin that are pickles (of Python, NumPy, Torch), and HDF5 files.
_PICKLES, _HDF5 = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"\x93NUMPY"), b"\x89HDF"
_PICKLE_SUFFIXES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".npy", ".npz")
_HDF5_SUFFIXES = (".h5", ".hdf5")
# Where a .keras file's classes may be: Keras 2.15 calls what it names, also `keras.utils.get_file`,
# in its safe mode, too.
_KERAS = ("keras", "tf_keras")
_PARTS = (
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
_CLASSES = ("Functional", "Model", "Sequential")
_OWN = (
    ("keras_srt.models.dropout", "Dropout"),
    ("keras_srt.models.batch_norm", "BatchNormalization"),
    ("keras_srt.models.convolution", "Conv2D"),
)
_LARGEST = 8 * 2**30
# Operations that leave the process: Python, files, the network.
_REACHING_OUT = (
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
# What every export has.
_OURS = {"serving_default", "image"}


def check_file_format(path: Path) -> None:
    """Refuses files whose formats hold code: pickles, and Keras' models in HDF5.

    Args:
        path: a file or a folder, which need not exist.

    Raises:
        UserError: it is such a file, whatever it is called.

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
    """Refuses a `.keras` file that is more than weights and the names of Keras' own layers.

    Args:
        path: the file.

    Raises:
        UserError: its entries lie outside of it or are links, it holds code (Lambda layers,
            functions), or names classes of other modules.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                _check_entry(path, entry)
            if sum(entry.file_size for entry in archive.infolist()) > _LARGEST:
                raise _refused(path, f"unpacks to more than {_LARGEST:,} bytes")
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
    """All dictionaries in a value of JSON."""
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
    of_keras = root in _KERAS and ((inside[:1] and inside[0] in _PARTS) or kind in _CLASSES)
    if not of_keras and (module, kind) not in _OWN:
        raise _refused(path, f"names {module}.{kind}, which is not a part of Keras' models")


def check_savedmodel(folder: Path) -> None:
    """Refuses a SavedModel that is not like those of `keras-srt export`, or that reaches out.

    Args:
        folder: with `saved_model.pb`.

    Raises:
        UserError: it lacks a signature of ours, an operation of it leaves the process, or it
            can't be read.
    """
    _ = tf.__version__  # which loads TensorFlow without its noise
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        content = (folder / "saved_model.pb").read_bytes()
        saved = saved_model_pb2.SavedModel.FromString(content)
    except (OSError, DecodeError) as error:
        raise UserError(f"--model {folder}: can't be loaded ({error})") from error
    reaching = sorted(_operations(saved) & set(_REACHING_OUT))
    signatures = {name for graph in saved.meta_graphs for name in graph.signature_def}
    if reaching or not signatures >= _OURS:
        what = f"has the operations {', '.join(reaching)}" if reaching else "is from elsewhere"
        raise UserError(
            f"--model {folder}: {what}, and a SavedModel is a program, which may read and write "
            "files; give --foreign to run it all the same, or export a run by `keras-srt export`"
        )


def _operations(saved: Any) -> set[str]:
    """The names of all operations in the graphs and functions of a SavedModel."""
    found: set[str] = set()
    for graph in saved.meta_graphs:
        found.update(node.op for node in graph.graph_def.node)
        for function in graph.graph_def.library.function:
            found.update(node.op for node in function.node_def)
    return found
