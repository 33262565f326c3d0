"""Comparison of an exported model with the Keras model."""

from __future__ import annotations

import numpy as np


def check_agreement(kind: str, expected: np.ndarray, actual: np.ndarray, tolerance: float) -> float:
    """Check that an exported model gives the probabilities of the Keras model.

    Args:
        kind: Name of the exported format, for the error message.
        expected: Probabilities of the Keras model, [n, classes].
        actual: Probabilities of the exported model, [n, classes].
        tolerance: Largest allowed absolute difference.

    Returns:
        The largest absolute difference.

    Raises:
        RuntimeError: The difference exceeds the tolerance or is NaN.
    """
    difference = float(np.max(np.abs(np.asarray(expected) - np.asarray(actual))))
    if not difference <= tolerance:
        raise RuntimeError(
            f"{kind}: its probabilities differ from those of the Keras model by {difference:.2g}, "
            f"allowed is {tolerance:g}; it was not published"
        )
    return difference
