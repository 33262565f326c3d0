"""Classification of an image with a .tflite file."""

from __future__ import annotations

import importlib.util
import operator
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.core.images import BadImage
from keras_srt.core.stderr_filter import TENSORFLOW_STARTUP_NOISE, filter_stderr
from keras_srt.device.model_file import BadModel, read_labels

# Module and attribute of each interpreter, the quickest first; the last one comes with
# TensorFlow, which a device does not have.
INTERPRETERS = {
    "ai-edge-litert": ("ai_edge_litert.interpreter", "Interpreter"),
    "tflite-runtime": ("tflite_runtime.interpreter", "Interpreter"),
    "tensorflow": ("tensorflow", "lite.Interpreter"),
}
# What an interpreter, and TensorFlow around it, say each time.
_NOISE = rf"Created TensorFlow Lite XNNPACK delegate|{TENSORFLOW_STARTUP_NOISE}"


def installed_interpreter() -> str:
    """The first key of `INTERPRETERS` that is installed.

    Raises:
        ImportError: none is.
    """
    for name, (module, _) in INTERPRETERS.items():
        if importlib.util.find_spec(module.partition(".")[0]) is not None:
            return name
    raise ImportError(
        "no TFLite interpreter is installed; pip install ai-edge-litert, or tflite-runtime"
    )


def load_interpreter(name: str | None = None) -> Any:
    """Imports an interpreter.

    Args:
        name: a key of `INTERPRETERS`; by default the first that is installed.

    Returns:
        The class `Interpreter`.

    Raises:
        ImportError: none is installed, or the one that is can't be imported.
    """
    module, attribute = INTERPRETERS[name or installed_interpreter()]
    with filter_stderr(_NOISE):
        return operator.attrgetter(attribute)(importlib.import_module(module))


def open_interpreter(path: str | Path, num_threads: int, name: str | None = None) -> Any:
    """Loads a file that was checked (see `read_labels`) into an interpreter.

    Args:
        path: the file.
        num_threads: of the interpreter, at least 1.
        name: a key of `INTERPRETERS`; by default the first that is installed.

    Returns:
        The interpreter, its tensors allocated.

    Raises:
        BadModel: the interpreter refuses the file.
        ImportError: none is installed.
    """
    make = load_interpreter(name)
    try:
        with filter_stderr(_NOISE), warnings.catch_warnings():
            # Said of TensorFlow's own, the last of `INTERPRETERS`, whoever uses it.
            warnings.filterwarnings("ignore", message=r"\s*Warning: tf\.lite\.Interpreter is dep")
            interpreter = make(model_path=str(path), num_threads=num_threads)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise BadModel(f"{path}: the interpreter refuses it ({reason[0][:200]})") from error
    return interpreter


def check_pixels(images: np.ndarray, shape: tuple[int, ...], low: float = 0.0) -> np.ndarray:
    """Checks what goes into a model.

    Args:
        images: an image, or a batch.
        shape: that it has to have.
        low: the least value; the largest is 1.

    Returns:
        The same values, float32.

    Raises:
        BadImage: another shape, NaN, or out of range.
    """
    pixels = np.asarray(images, np.float32)
    if pixels.shape != shape:
        raise BadImage(f"has the shape {pixels.shape}; allowed: {shape}")
    # Written so that NaN fails, too.
    if not (pixels.min() >= low and pixels.max() <= 1):
        raise BadImage(
            f"has values from {pixels.min():g} to {pixels.max():g}; allowed: {low:g} to 1"
        )
    return pixels


class Classifier:
    """A classifier in a .tflite file that `keras-srt export` wrote.

    One object serves one thread at a time. Interpreters run what a file says: load files
    that you trust.

    Args:
        path: `model_float32.tflite`, say.
        num_threads: threads of the interpreter, at least 1.
        interpreter: a key of `INTERPRETERS`; by default the first that is installed.

    Attributes:
        labels: the class names in the order of their ids.
        shape: (height, width, channels) of an image.

    Raises:
        BadModel: the file is missing, damaged, or no such classifier.
        ImportError: no interpreter is installed.

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
        self._interpreter = open_interpreter(path, num_threads, interpreter)
        source = self._interpreter.get_input_details()
        answer = self._interpreter.get_output_details()
        shapes = [tuple(map(int, tensor["shape"])) for tensor in (*source, *answer)]
        kinds = {np.dtype(tensor["dtype"]) for tensor in (*source, *answer)}
        fits = len(shapes) == 2 and len(shapes[0]) == 4 and shapes[0][0] == 1
        if not fits or shapes[1] != (1, len(self.labels)) or kinds != {np.dtype(np.float32)}:
            raise BadModel(
                f"{path}: takes and gives {shapes}; allowed: float32 [1, height, width, channels] "
                f"and [1, {len(self.labels)}], the number of its labels"
            )
        _, height, width, channels = shapes[0]
        self.shape = (height, width, channels)
        self._source, self._answer = source[0]["index"], answer[0]["index"]

    def classify(self, image: np.ndarray) -> np.ndarray:
        """The distribution over the classes for one image.

        Args:
            image: float32 [height, width, channels] in [0, 1].

        Returns:
            Probabilities, float32 [classes].

        Raises:
            BadImage: another shape, NaN, or out of range.
        """
        pixels = check_pixels(image, self.shape)
        self._interpreter.set_tensor(self._source, pixels[None])
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._answer)[0]
