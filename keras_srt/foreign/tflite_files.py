"""TFLite files of any program as classifiers of images."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.core.tensorflow import tf
from keras_srt.device.classify import open_interpreter
from keras_srt.device.model_file import IDENTIFIER, LABELS, BadModel, read_labels
from keras_srt.foreign.opened_model import OpenedModel

_TYPES = (np.float32, np.int8, np.uint8)


def open_tflite(path: Path) -> OpenedModel:
    """Load a .tflite file, with inputs and outputs of float32 or 8 bits.

    Args:
        path: The file, which should be trusted, since the interpreter executes it.

    Returns:
        The model, which predicts image by image.

    Raises:
        UserError: The file can't be loaded, is damaged, or is no classifier of single images.
    """
    try:
        labels = _checked_labels(path)
        interpreter = open_interpreter(path, num_threads=1)
    except (BadModel, ImportError) as error:
        raise UserError(f"--model {error}") from error
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    _check_tensors(path, inputs, outputs)

    def predict_one(image: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(inputs[0]["index"], _quantized(image[None], inputs[0]))
        interpreter.invoke()
        return _real(interpreter.get_tensor(outputs[0]["index"])[0], outputs[0])

    def predict(images: tf.Tensor) -> np.ndarray:
        return np.stack([predict_one(image) for image in images.numpy()])

    return OpenedModel(
        source=f"--model {path}",
        kind="TFLite file",
        function=predict,
        input_shape=tuple(map(int, inputs[0]["shape"]))[1:],
        outputs="probabilities" if labels else "",
        input_range=(0.0, 1.0) if labels else None,
        in_graph=False,
        labels=labels,
    )


def _checked_labels(path: Path) -> tuple[str, ...]:
    """Verify the checksum of a file of this package and return its labels.

    Of another file, verify the TFLite magic number; it has no labels.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            has_labels = LABELS in archive.namelist() and bool(archive.comment)
        if has_labels:
            return tuple(read_labels(path))
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise BadModel(f"{path}: can't be read ({error.strerror})") from error
    if start[4:] != IDENTIFIER:
        raise BadModel(f"{path}: is no TFLite model (bytes 4 to 8 are {start[4:]!r}, not TFL3)")
    return ()


def _check_tensors(
    path: Path, inputs: list[Mapping[str, Any]], outputs: list[Mapping[str, Any]]
) -> None:
    shapes = [tuple(map(int, tensor["shape"])) for tensor in (*inputs, *outputs)]
    fits = len(shapes) == 2 and len(shapes[0]) == 4 and len(shapes[1]) == 2
    if len(inputs) != 1 or not fits or shapes[0][0] != 1 or shapes[1][0] != 1:
        raise UserError(
            f"--model {path}: has {len(inputs)} inputs and {len(outputs)} outputs of the shapes "
            f"{shapes}; allowed: one input of one image, (1, height, width, channels), and one "
            "output (1, classes)"
        )
    for tensor in (*inputs, *outputs):
        kind, (scale, _) = tensor["dtype"], tensor["quantization"]
        if kind not in _TYPES or (kind != np.float32 and scale == 0):
            raise UserError(
                f"--model {path}: takes or gives {np.dtype(kind).name} with the scale {scale:g}; "
                "allowed: float32, or int8 and uint8 with a scale"
            )


def _quantized(images: np.ndarray, tensor: Mapping[str, Any]) -> np.ndarray:
    """Quantize real values for a tensor of the file: round(x / scale) + zero point."""
    kind, (scale, zero) = tensor["dtype"], tensor["quantization"]
    if kind == np.float32:
        return images
    bounds = np.iinfo(kind)
    return np.clip(np.round(images / scale) + zero, bounds.min, bounds.max).astype(kind)


def _real(values: np.ndarray, tensor: Mapping[str, Any]) -> np.ndarray:
    """Real values of a tensor of the file."""
    scale, zero = tensor["quantization"]
    if tensor["dtype"] == np.float32:
        return values
    return np.float32(scale) * (np.float32(values) - zero)
