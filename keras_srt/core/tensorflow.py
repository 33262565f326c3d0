"""TensorFlow and Keras, imported at first use and without their start-up noise.

Settings can then be checked, and `--help` answered, without the seconds that
importing TensorFlow takes: modules say `from keras_srt.core.tensorflow import keras, tf`.

`keras` is Keras 2: the one of TensorFlow 2.15, and the package `tf_keras` beside a newer
TensorFlow, whose own is Keras 3.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from typing import TYPE_CHECKING, Any

from keras_srt.core.stderr_filter import TENSORFLOW_STARTUP_NOISE, filter_stderr


def load_tensorflow() -> None:
    """Imports TensorFlow now, before another package does so and its noise is heard."""
    _load("tensorflow")


def _load(name: str) -> types.ModuleType:
    """Imports TensorFlow or Keras 2, quietly if TensorFlow is not there yet."""
    if "tensorflow" in sys.modules:
        return _import(name)
    # Newer ones say something in passing wherever they open a file; warnings are still told.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    with filter_stderr(TENSORFLOW_STARTUP_NOISE):
        module = _import(name)
        # Newer ones say that there is no GPU not at the import, but when they first look.
        sys.modules["tensorflow"].config.list_physical_devices()
    return module


def _import(name: str) -> types.ModuleType:
    tensorflow = importlib.import_module("tensorflow")
    if name == "tensorflow":
        return tensorflow
    major, minor, *_ = tensorflow.__version__.split(".")
    return importlib.import_module("keras" if (int(major), int(minor)) < (2, 16) else "tf_keras")


class _LazyModule(types.ModuleType):
    """Stands in for a module and imports it when an attribute is asked for."""

    def __getattr__(self, attribute: str) -> Any:
        return getattr(_load(self.__name__), attribute)


if TYPE_CHECKING:
    import keras
    import tensorflow as tf
else:
    tf = _LazyModule("tensorflow")
    keras = _LazyModule("keras")

__all__ = ["keras", "load_tensorflow", "tf"]
