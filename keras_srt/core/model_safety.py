"""Safety checks of model files; `model_loading` has the only functions that load them.

A model file can be a program: loading or calling it can run code, or read and write files. Names
in a file are forgeable, so that every part of it must be in the lists of `allowed_parts`.
"""

from __future__ import annotations

import io
import json
import stat
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from keras_srt.core import allowed_parts as allowed
from keras_srt.core.errors import UserError

# The first bytes of pickles (from Python, NumPy or PyTorch) and of HDF5 files.
_PICKLES, _HDF5 = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"\x93NUMPY"), b"\x89HDF"
_PICKLE_SUFFIXES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".npy", ".npz")
_HDF5_SUFFIXES = (".h5", ".hdf5")
_MAX_UNPACKED_BYTES = 8 * 2**30
_WEIGHTS = "model.weights.h5"
# Keys of a Keras config whose values Keras looks up, if they are names and not objects.
_LOOKED_UP = ("_constraint", "_initializer", "_regularizer")
# `BuiltinOperator_CUSTOM` in TFLite's schema.
_TFLITE_CUSTOM = 32


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
    """Reject a `.keras` file that holds more than weights and a model of allowed classes.

    Args:
        path: The file.

    Raises:
        UserError: An entry of the archive is a link or has a path outside the archive, the
            weights refer to other files, or the model has a part that isn't in `allowed_parts`,
            such as a Lambda layer.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                _check_entry(path, entry)
            if sum(entry.file_size for entry in archive.infolist()) > _MAX_UNPACKED_BYTES:
                raise _refused(path, f"unpacks to more than {_MAX_UNPACKED_BYTES:,} bytes")
            config = json.loads(archive.read("config.json"))
            if not isinstance(config, dict):
                raise ValueError("config.json is no object")
            # Not read without compiling; may name losses of the user.
            config.pop("compile_config", None)
            for part in _objects(config):
                _check_object(path, part)
            _check_weights(path, archive.read(_WEIGHTS))
    except (OSError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        # RuntimeError covers encrypted entries, unknown compression (NotImplementedError) and
        # config.json nested too deeply (RecursionError).
        raise _cannot_load(path, error) from error


def _cannot_load(path: Path, error: Exception) -> UserError:
    return UserError(
        f"--model {path}: can't be loaded ({type(error).__name__}: {str(error)[:120]})"
    )


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
    """Check the class that a dictionary names, and the names that Keras looks up in it."""
    if "class_name" in part and not _is_allowed_class(part):
        module, kind = part.get("module"), part["class_name"]
        where = "without its module" if module is None else f"of {str(module)[:80]}"
        raise _refused(
            path, f"names {str(kind)[:80]!r} {where}, which is no part of plain Keras classifiers"
        )
    for key, value in part.items():
        if not isinstance(value, str):
            continue
        is_activation = key == "activation" or key.endswith("_activation")
        if (is_activation and value not in allowed.KERAS_ACTIVATIONS) or key.endswith(_LOOKED_UP):
            raise _refused(path, f"has the {key} {value[:80]!r}, which is no object of Keras")


def _is_allowed_class(part: dict[str, Any]) -> bool:
    module, kind = part.get("module"), part["class_name"]
    registered = part.get("registered_name")
    if module is None:
        return isinstance(kind, str) and kind in allowed.KERAS_VALUES
    if not all(isinstance(name, str) for name in (module, kind, registered or "")):
        return False
    if (module, kind, registered) in allowed.OTHER_CLASSES:
        return True
    root, _, inside = module.partition(".")
    # Keras looks a registered name up before the class.
    if root != allowed.KERAS_PACKAGE or registered not in (None, kind):
        return False
    if inside == allowed.KERAS_OPERATION_MODULE and kind in allowed.KERAS_OPERATIONS:
        settings = part.get("config")
        function = settings.get("function") if isinstance(settings, dict) else None
        return isinstance(function, str) and function in allowed.KERAS_FUNCTIONS
    return kind in allowed.KERAS_CLASSES.get(inside, ())


def _check_weights(path: Path, content: bytes) -> None:
    """Reject weights in other files: HDF5 can link to them."""
    import h5py

    with h5py.File(io.BytesIO(content), "r") as file:
        groups, seen = [file["/"]], set()
        while groups:
            group = groups.pop()
            for name in group:
                link = group.get(name, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    raise _refused(path, f"has a link in its weights ({name[:80]!r})")
                part = group[name]
                address = h5py.h5o.get_info(part.id).addr
                if isinstance(part, h5py.Dataset) and (part.external or part.is_virtual):
                    raise _refused(path, f"has weights in another file ({name[:80]!r})")
                if isinstance(part, h5py.Group) and address not in seen:
                    seen.add(address)
                    groups.append(part)


def refused_operations(saved: Any) -> list[str]:
    """Find the operations of a SavedModel that image classifiers don't consist of.

    Args:
        saved: The content of `saved_model.pb`.

    Returns:
        The names of the operations that aren't in `allowed_parts`, such as those that access
        files or run Python code.
    """
    return sorted(set().union(*map(_refused_operations, saved.meta_graphs)))


def _refused_operations(graph: Any) -> set[str]:
    """The operations of a graph and its functions that aren't allowed.

    Saving and restoring variables takes operations on files. Only the two functions that the
    graph's saver calls may contain them, and nothing else may refer to these functions.
    """
    nodes = {node.name: node for node in graph.graph_def.node}
    names = (graph.saver_def.save_tensor_name, graph.saver_def.restore_op_name)
    calls = [name.partition(":")[0] for name in names if name]
    saving = {name for call in calls if call in nodes for name in _called(nodes[call])}
    library, objects = graph.graph_def.library, graph.object_graph_def
    others = [node for node in graph.graph_def.node if node.name not in calls]
    others += [node for function in library.function for node in function.node_def]
    reachable = {name for node in others for name in _called(node)} | set(
        objects.concrete_functions
    )
    for saved in objects.nodes:
        reachable.update(saved.function.concrete_functions)
        reachable.add(saved.bare_concrete_function.concrete_function_name)
    for gradient in library.gradient:
        reachable |= {gradient.function_name, gradient.gradient_func}
    saving -= reachable
    refused = {node.op for node in graph.graph_def.node} - allowed.OPERATIONS
    for function in library.function:
        name, own = function.signature.name, {node.op for node in function.node_def}
        # A function that implements an interface may be called in place of another.
        is_saver = name in saving and "api_implements" not in function.attr
        refused |= own - (allowed.SAVER_OPERATIONS if is_saver else allowed.OPERATIONS)
    return refused


def _called(node: Any) -> Iterator[str]:
    """The functions that an operation refers to."""
    yield node.op
    for attribute in node.attr.values():
        if attribute.func.name:
            yield attribute.func.name
        for function in attribute.list.func:
            yield function.name


def check_tflite_file(path: Path) -> None:
    """Reject a .tflite file with operations outside of TFLite's own set.

    TensorFlow's interpreter also runs operations of TensorFlow ("Flex"), which can access files,
    and interpreters can be extended by custom operations.

    Args:
        path: The file.

    Raises:
        ValueError: The file has such an operation, or is damaged.
        OSError: The file can't be read.
    """
    content = path.read_bytes()
    try:
        custom = list(_custom_operations(content))
    except struct.error as error:
        raise ValueError("is damaged") from error
    if custom:
        raise ValueError(
            f"has the operations {', '.join(custom[:5])}; allowed: TFLite's own, as in exported "
            "files"
        )


def _custom_operations(content: bytes) -> Iterator[str]:
    """Read the operator codes of a model in TFLite's flatbuffer format.

    Source: tensorflow/lite/schema/schema.fbs. `Model.operator_codes` is field 1; `OperatorCode`
    has `deprecated_builtin_code` (0), `custom_code` (1) and `builtin_code` (3).
    """

    def read(code: str, position: int) -> int:
        if position < 0:
            raise struct.error("negative offset")
        return int(struct.unpack_from(code, content, position)[0])

    def field(table: int, index: int) -> int:
        """The position of a field; 0 if it has its default."""
        vtable = table - read("<i", table)
        if 4 + 2 * index >= read("<H", vtable):
            return 0
        offset = read("<H", vtable + 4 + 2 * index)
        return table + offset if offset else 0

    model = read("<I", 0)
    codes = field(model, 1)
    if not codes:
        return
    codes += read("<I", codes)
    for number in range(read("<I", codes)):
        entry = codes + 4 + 4 * number
        entry += read("<I", entry)
        old, new, name = field(entry, 0), field(entry, 3), field(entry, 1)
        builtin = max(read("<b", old) if old else 0, read("<i", new) if new else 0)
        if builtin == _TFLITE_CUSTOM:
            start = name + read("<I", name) if name else 0
            size = min(80, read("<I", start)) if name else 0
            yield content[start + 4 : start + 4 + size].decode("utf-8", "replace") or "custom"
