"""Queries in bfloat16, and how much they differ from float32."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_srt.core import processor
from keras_srt.core.tensorflow import tf

logger = logging.getLogger(__name__)

# TensorFlow's option that computes convolutions and matrix products of a graph in bfloat16.
_OPTION = "auto_mixed_precision_onednn_bfloat16"


def bfloat16_is_fast() -> bool:
    """Whether queries in bfloat16 take much less time here: on a processor with AMX, without a GPU.

    With the bfloat16 instructions of AVX512 alone, no gain was measured.
    """
    return processor.bfloat16_instructions() == "amx_bf16" and not tf.config.list_physical_devices(
        "GPU"
    )


def in_bfloat16(function: Any) -> Callable[..., Any]:
    """Return a `tf.function` that computes in bfloat16 what TensorFlow considers safe.

    The graph and its float32 weights are those of the function, which itself stays in float32.
    Without oneDNN or its bfloat16 kernels, the result is that of float32.
    """

    def call(*tensors: tf.Tensor) -> Any:
        # Traced outside: a graph keeps the options under which it was traced.
        concrete = function.get_concrete_function(*tensors)
        before = tf.config.optimizer.get_experimental_options().get(_OPTION, False)
        tf.config.optimizer.set_experimental_options({_OPTION: True})
        try:
            return concrete(*tensors)
        finally:
            tf.config.optimizer.set_experimental_options({_OPTION: before})

    return call


class RoundingError:
    """The largest difference between bfloat16 and float32 measured so far, and a bound from it.

    The bound is empirical: a larger difference may exist where nothing was measured.

    Attributes:
        largest: Largest difference, infinite if a value was NaN; None before a measurement.

    Example:
        >>> error = RoundingError()
        >>> error.measure(np.float32([1, 2]), np.float32([1.25, 2]))
        >>> error.largest, error.bound
        (0.25, 1.0)
    """

    # Few images are measured, and the largest of more errors is larger.
    _SAFETY = 4
    # float32 differs by less between batches of different sizes.
    _LEAST = 1e-3

    def __init__(self) -> None:
        self.largest: float | None = None
        self._asked = self._repeated = 0

    @property
    def bound(self) -> float:
        """Assumed largest difference of all; infinite before a measurement."""
        return np.inf if self.largest is None else max(self._SAFETY * self.largest, self._LEAST)

    @property
    def pays(self) -> bool:
        """Whether float32 only confirmed at most half of the queries in bfloat16."""
        return self._repeated <= self._asked / 2

    def count(self, asked: int = 0, repeated: int = 0) -> None:
        """Count queries in bfloat16, and those that float32 repeated without another verdict."""
        self._asked, self._repeated = self._asked + asked, self._repeated + repeated

    def measure(self, rounded: np.ndarray, exact: np.ndarray) -> None:
        """Compare values in bfloat16 with those in float32, arrays of the same shape."""
        difference = np.abs(np.subtract(rounded, exact, dtype=np.float64))
        found = float(np.where(np.isnan(difference), np.inf, difference).max(initial=0.0))
        if found > self.bound:
            logger.warning(
                "bfloat16 differs from float32 by %.2g, more than the bound of %.2g by which "
                "earlier batches were decided; to decide them in float32 alone, set "
                "evaluation.precision to float32",
                found,
                self.bound,
            )
        self.largest = max(self.largest or 0.0, found)
