"""TensorFlow and Keras, imported at first use and without their start-up noise.

Settings can then be checked, and `--help` answered, without the seconds that
importing TensorFlow takes: modules say `from keras_srt.lazy import keras, tf`.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

from keras_srt.noise import START_UP, without_lines


def _load(name: str) -> types.ModuleType:
    """Imports a TensorFlow module, quietly if TensorFlow is not there yet."""
    if "tensorflow" in sys.modules:
        return importlib.import_module(name)
    with without_lines(START_UP):
        importlib.import_module("tensorflow")
        return importlib.import_module(name)


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

__all__ = ["keras", "tf"]
