"""External models without gradients: TFLite files and servers."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.device.classify import open_interpreter
from keras_srt.device.model_file import IDENTIFIER, LABELS, BadModel, read_labels
from keras_srt.serving.client.float_client import FloatClient

# float32 images [n, height, width, channels] in [0, 1] -> logits or probabilities [n, classes].
Predict = Callable[[np.ndarray], np.ndarray]

_TYPES = (np.float32, np.int8, np.uint8)


def open_server(address: str) -> Predict:
    """Connect to a model behind TF Serving's REST protocol.

    Args:
        address: `http://host:port/v1/models/NAME[/versions/N]`.

    Returns:
        A function that queries the model, always the same version.

    Raises:
        UserError: The server can't be reached, or the model takes no images as floats.
    """
    return FloatClient(address).predict


def open_tflite(path: Path, shape: tuple[int, int, int]) -> Predict:
    """Load a .tflite file, with inputs and outputs of float32 or 8 bits.

    Args:
        path: The file, which should be trusted, since the interpreter executes it.
        shape: (height, width, channels) of the images.

    Returns:
        A function that predicts image by image.

    Raises:
        UserError: The file can't be loaded, is damaged, or is no classifier of such images.
    """
    try:
        _check_content(path)
        interpreter = open_interpreter(path, num_threads=1)
    except (BadModel, ImportError) as error:
        raise UserError(f"--model {error}") from error
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    _check_tensors(path, shape, inputs, outputs)

    def predict_one(image: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(inputs[0]["index"], _quantized(image[None], inputs[0]))
        interpreter.invoke()
        return _real(interpreter.get_tensor(outputs[0]["index"])[0], outputs[0])

    return lambda images: np.stack([predict_one(image) for image in images])


def _check_content(path: Path) -> None:
    """Verify the checksum of a file of this package, or the TFLite magic number of any other."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            has_labels = LABELS in archive.namelist()
        if has_labels:
            read_labels(path)
            return
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise BadModel(f"{path}: can't be read ({error.strerror})") from error
    if start[4:] != IDENTIFIER:
        raise BadModel(f"{path}: is no TFLite model (bytes 4 to 8 are {start[4:]!r}, not TFL3)")


def _check_tensors(
    path: Path,
    shape: tuple[int, int, int],
    inputs: list[Mapping[str, Any]],
    outputs: list[Mapping[str, Any]],
) -> None:
    shapes = [tuple(map(int, tensor["shape"])) for tensor in (*inputs, *outputs)]
    wanted = (1, *shape)
    fits = len(shapes) == 2 and shapes[0] == wanted and len(shapes[1]) == 2 and shapes[1][0] == 1
    if not fits:
        raise UserError(
            f"--model {path}: takes and gives {shapes}; allowed: {wanted}, an image of the "
            "dataset, and (1, classes)"
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
