"""TensorFlow and Keras 2, imported at first use and without start-up noise.

Modules use `from keras_srt.core.tensorflow import keras, tf`. The import then takes no time until
an attribute is used: `--help` and config errors appear without waiting for TensorFlow.

`keras` is Keras 2: `keras` with TensorFlow 2.15, `tf_keras` with newer versions, whose `keras` is
Keras 3.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from typing import TYPE_CHECKING, Any

from keras_srt.core.stderr_filter import TENSORFLOW_STARTUP_NOISE, filter_stderr


def load_tensorflow() -> None:
    """Import TensorFlow now, before another package imports it with its start-up noise."""
    _load("tensorflow")


def _load(name: str) -> types.ModuleType:
    """Import TensorFlow or Keras 2, without noise if TensorFlow is not imported yet."""
    if "tensorflow" in sys.modules:
        return _import(name)
    # Newer versions log at INFO level when they open files; warnings remain visible.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    with filter_stderr(TENSORFLOW_STARTUP_NOISE):
        module = _import(name)
        # Newer versions report missing GPUs when they first list devices, not at import.
        sys.modules["tensorflow"].config.list_physical_devices()
    return module


def _import(name: str) -> types.ModuleType:
    tensorflow = importlib.import_module("tensorflow")
    if name == "tensorflow":
        return tensorflow
    major, minor, *_ = tensorflow.__version__.split(".")
    return importlib.import_module("keras" if (int(major), int(minor)) < (2, 16) else "tf_keras")


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

__all__ = ["keras", "load_tensorflow", "tf"]
