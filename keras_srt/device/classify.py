"""Classification with a .tflite file."""

from __future__ import annotations

import importlib.util
import operator
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.core.images import BadImage
from keras_srt.core.model_safety import check_tflite_file
from keras_srt.core.stderr_filter import TENSORFLOW_STARTUP_NOISE, filter_stderr
from keras_srt.device.model_file import BadModel, is_trainable, read_labels

# Module and attribute of each interpreter, in the order of preference. Devices usually lack
# TensorFlow's.
INTERPRETERS = {
    "ai-edge-litert": ("ai_edge_litert.interpreter", "Interpreter"),
    "tflite-runtime": ("tflite_runtime.interpreter", "Interpreter"),
    "tensorflow": ("tensorflow", "lite.Interpreter"),
}
# Lines that interpreters and TensorFlow write whenever they are loaded.
_NOISE = rf"Created TensorFlow Lite XNNPACK delegate|{TENSORFLOW_STARTUP_NOISE}"


def installed_interpreter() -> str:
    """Return the first key of `INTERPRETERS` that is installed.

    Raises:
        ImportError: No interpreter is installed.
    """
    for name, (module, _) in INTERPRETERS.items():
        if importlib.util.find_spec(module.partition(".")[0]) is not None:
            return name
    raise ImportError(
        "no TFLite interpreter is installed; pip install ai-edge-litert, or tflite-runtime"
    )


def load_interpreter(name: str | None = None) -> Any:
    """Import an interpreter.

    Args:
        name: A key of `INTERPRETERS`; None for the first one that is installed.

    Returns:
        The class `Interpreter`.

    Raises:
        ImportError: No interpreter is installed, or its import fails.
    """
    module, attribute = INTERPRETERS[name or installed_interpreter()]
    with filter_stderr(_NOISE):
        return operator.attrgetter(attribute)(importlib.import_module(module))


def open_interpreter(path: str | Path, num_threads: int, name: str | None = None) -> Any:
    """Load a file into an interpreter; check it with `read_labels` first.

    Args:
        path: The .tflite file.
        num_threads: The number of interpreter threads, at least 1.
        name: A key of `INTERPRETERS`; None for the first one that is installed.

    Returns:
        The interpreter, with allocated tensors.

    Raises:
        BadModel: The file has operations that aren't TFLite's, or the interpreter rejects it.
        ImportError: No interpreter is installed.
    """
    try:
        check_tflite_file(Path(path))
    except ValueError as error:
        raise BadModel(f"{path}: {error}") from error
    interpreter_class = load_interpreter(name)
    try:
        with filter_stderr(_NOISE), warnings.catch_warnings():
            # A deprecation warning about TensorFlow's own interpreter.
            warnings.filterwarnings("ignore", message=r"\s*Warning: tf\.lite\.Interpreter is dep")
            interpreter = interpreter_class(model_path=str(path), num_threads=num_threads)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise BadModel(f"{path}: the interpreter rejects it ({reason[0][:200]})") from error
    return interpreter


def check_pixels(images: np.ndarray, shape: tuple[int, ...], low: float = 0.0) -> np.ndarray:
    """Check the input of a model.

    Args:
        images: An image or a batch.
        shape: The expected shape.
        low: The minimum value; the maximum is 1.

    Returns:
        The values as float32.

    Raises:
        BadImage: The shape is wrong, or a value is NaN or out of range.
    """
    pixels = np.asarray(images, np.float32)
    if pixels.shape != shape:
        raise BadImage(f"has the shape {pixels.shape}; allowed: {shape}")
    # NaN fails this comparison, too.
    if not (pixels.min() >= low and pixels.max() <= 1):
        raise BadImage(
            f"has values from {pixels.min():g} to {pixels.max():g}; allowed: {low:g} to 1"
        )
    return pixels


class Classifier:
    """A classifier in a .tflite file that `keras-srt export` wrote.

    Not thread-safe. Load trusted files only: interpreters execute the model without checks.

    Args:
        path: The file, such as `model_float32.tflite`.
        num_threads: The number of interpreter threads, at least 1.
        interpreter: A key of `INTERPRETERS`; None for the first one that is installed.

    Attributes:
        labels: The class names in the order of their ids.
        shape: Height, width and channels of an image.

    Raises:
        BadModel: The file is missing, damaged, or not such a classifier.
        ImportError: No interpreter is installed.

    Example:
        >>> classifier = Classifier("model_int8.tflite")  # doctest: +SKIP
        >>> probabilities = classifier.classify(image)  # doctest: +SKIP
        >>> classifier.labels[probabilities.argmax()]  # doctest: +SKIP
        '7'
    """

    def __init__(
        self, path: str | Path, num_threads: int = 1, interpreter: str | None = None
    ) -> None:
        self.labels: list[str] = read_labels(path)
        if is_trainable(path):
            raise BadModel(
                f"{path}: is a model that is trained on a device; give the weights of a training, "
                "--weights FILE (in Python, use keras_srt.device.trainer.Trainer), or another "
                "file, such as model_float32.tflite"
            )
        self._interpreter = open_interpreter(path, num_threads, interpreter)
        inputs = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        shapes = [tuple(map(int, tensor["shape"])) for tensor in (*inputs, *outputs)]
        dtypes = {np.dtype(tensor["dtype"]) for tensor in (*inputs, *outputs)}
        fits = len(shapes) == 2 and len(shapes[0]) == 4 and shapes[0][0] == 1
        if not fits or shapes[1] != (1, len(self.labels)) or dtypes != {np.dtype(np.float32)}:
            raise BadModel(
                f"{path}: has inputs and outputs of shapes {shapes}; allowed: float32 [1, height, "
                f"width, channels] and [1, {len(self.labels)}], the number of its labels"
            )
        _, height, width, channels = shapes[0]
        self.shape = (height, width, channels)
        self._input, self._output = inputs[0]["index"], outputs[0]["index"]

    def classify(self, image: np.ndarray) -> np.ndarray:
        """Return the class probabilities of an image.

        Args:
            image: float32 [height, width, channels] in [0, 1].

        Returns:
            float32 [classes].

        Raises:
            BadImage: The shape is wrong, or a value is NaN or out of range.
        """
        pixels = check_pixels(image, self.shape)
        self._interpreter.set_tensor(self._input, pixels[None])
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)[0]
