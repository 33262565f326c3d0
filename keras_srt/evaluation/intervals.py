"""Accuracies with confidence intervals."""

from __future__ import annotations

from typing import Any

import numpy as np


def proportion(correct: np.ndarray) -> dict[str, Any]:
    """Compute an accuracy and its 95% Wilson interval.

    Args:
        correct: bool [n], whether each image is counted as correct.

    Returns:
        `{"accuracy": share, "ci95": [low, high], "n": n}`.

    Example:
        >>> proportion(np.array([True, True, False, True]))["accuracy"]
        0.75
    """
    from scipy.stats import binomtest

    interval = binomtest(int(correct.sum()), len(correct)).proportion_ci(0.95, method="wilson")
    return {
        "accuracy": float(np.mean(correct)),
        "ci95": [float(interval.low), float(interval.high)],
        "n": len(correct),
    }
