"""TensorFlow and Keras, imported at first use and without their start-up noise.

Settings can then be checked, and `--help` answered, without the seconds that
importing TensorFlow takes: modules say `from keras_srt.lazy import keras, tf`.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import tempfile
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

# What TensorFlow 2.15 writes to file descriptor 2 while it is imported, and that a
# user can't act on: CPU hints, absent CUDA and TensorRT, and its own double
# registration of the CUDA plug-ins. Every other line is passed on.
_START_UP_NOISE = re.compile(
    r"oneDNN custom operations are on"
    r"|Could not find cuda drivers"
    r"|Unable to register cu(DNN|FFT|BLAS) factory"
    r"|This TensorFlow binary is optimized to use available CPU instructions"
    r"|To enable the following instructions: .* rebuild TensorFlow"
    r"|TF-TRT Warning: Could not find TensorRT"
)


@contextmanager
def _without_start_up_noise() -> Iterator[None]:
    """Holds file descriptor 2 back during an import and drops the known noise."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            held.seek(0)
            for line in held.read().decode(errors="replace").splitlines(keepends=True):
                if not _START_UP_NOISE.search(line):
                    sys.stderr.write(line)


def _load(name: str) -> types.ModuleType:
    """Imports a TensorFlow module, quietly if TensorFlow is not there yet."""
    if "tensorflow" in sys.modules:
        return importlib.import_module(name)
    with _without_start_up_noise():
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
