"""TensorFlow and Keras, imported at first use and without their start-up noise.

Settings can then be checked, and `--help` answered, without the seconds that
importing TensorFlow takes: modules say `from keras_srt.lazy import keras, tf`.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

from keras_srt.noise import without_lines

# What TensorFlow 2.15 writes while it is imported, and that a user can't act on: CPU
# hints, absent CUDA and TensorRT, its own double registration of the CUDA plug-ins.
_START_UP_NOISE = (
    r"oneDNN custom operations are on"
    r"|Could not find cuda drivers"
    r"|Unable to register cu(DNN|FFT|BLAS) factory"
    r"|This TensorFlow binary is optimized to use available CPU instructions"
    r"|To enable the following instructions: .* rebuild TensorFlow"
    r"|TF-TRT Warning: Could not find TensorRT"
)


def _load(name: str) -> types.ModuleType:
    """Imports a TensorFlow module, quietly if TensorFlow is not there yet."""
    if "tensorflow" in sys.modules:
        return importlib.import_module(name)
    with without_lines(_START_UP_NOISE):
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
