"""TensorFlow and Keras, imported at first use and without start-up noise.

Modules use `from keras_srt.core.tensorflow import keras, tf`. The import then takes no time until
an attribute is used: `--help` and config errors appear without waiting for TensorFlow.

`keras` is the Keras of the installed TensorFlow: Keras 2 with TensorFlow 2.15, Keras 3 with newer
versions, where its backend must be TensorFlow.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import types
from typing import TYPE_CHECKING, Any

from keras_srt.core.errors import UserError
from keras_srt.core.progress import ProgressBar
from keras_srt.core.stderr_filter import (
    TENSORFLOW_STARTUP_NOISE,
    UNFILTERED_STDERR,
    filter_stderr,
)

_BACKEND = "tensorflow"


def load_tensorflow() -> None:
    """Import TensorFlow now, before another package imports it with its start-up noise."""
    _load("tensorflow")


def tf_variable(weight: Any) -> tf.Variable:
    """The `tf.Variable` of a weight of a Keras layer, which Keras 3 wraps."""
    return weight if isinstance(weight, tf.Variable) else weight.value


def _load(name: str) -> types.ModuleType:
    """Import TensorFlow or Keras, without noise if TensorFlow is not imported yet."""
    if "tensorflow" in sys.modules:
        return _import(name)
    # Newer versions log at INFO level when they open files; warnings remain visible.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    with filter_stderr(TENSORFLOW_STARTUP_NOISE), _loading_bar():
        module = _import(name)
        # Newer versions report missing GPUs when they first list devices, not at import.
        sys.modules["tensorflow"].config.list_physical_devices()
    return module


def _loading_bar() -> ProgressBar:
    """Return a progress bar, which is hidden unless stderr is a terminal and INFO is logged."""
    shows_logs = logging.getLogger("keras_srt").isEnabledFor(logging.INFO)
    return ProgressBar("loading TensorFlow", shown=shows_logs and UNFILTERED_STDERR.isatty())


def _import(name: str) -> types.ModuleType:
    if "keras" not in sys.modules:
        # The variable takes precedence over the user's settings in ~/.keras/keras.json.
        _check_backend(os.environ.setdefault("KERAS_BACKEND", _BACKEND))
    tensorflow = importlib.import_module("tensorflow")
    if name == "tensorflow":
        return tensorflow
    keras = importlib.import_module("keras")
    _check_backend(keras.backend.backend())
    return keras


def _check_backend(backend: str) -> None:
    if backend != _BACKEND:
        raise UserError(
            f"KERAS_BACKEND: got {backend!r}; allowed: {_BACKEND!r}; set or unset the variable "
            "before the first import of Keras"
        )


class _LazyModule(types.ModuleType):
    """A proxy for a module that imports it at the first attribute access."""

    def __getattr__(self, attribute: str) -> Any:
        return getattr(_load(self.__name__), attribute)


if TYPE_CHECKING:
    import keras
    import tensorflow as tf
else:
    tf = _LazyModule("tensorflow")
    keras = _LazyModule("keras")

__all__ = ["keras", "load_tensorflow", "tf", "tf_variable"]
