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


def mean_share(shares: np.ndarray) -> dict[str, Any]:
    """Compute the mean of each image's share of correct predictions, and its 95% interval.

    The predictions of an image depend on each other, images don't. The interval is that of the
    t-distribution.

    Args:
        shares: float [n] in [0, 1].

    Returns:
        `{"accuracy": mean, "ci95": [low, high], "n": n}`.

    Example:
        >>> mean_share(np.array([0.25, 0.75]))["accuracy"]
        0.5
    """
    from scipy.stats import sem, t

    mean, count = float(np.mean(shares)), len(shares)
    reach = float(sem(shares) * t.ppf(0.975, count - 1)) if count > 1 else 1.0
    return {
        "accuracy": mean,
        "ci95": [max(0.0, mean - reach), min(1.0, mean + reach)],
        "n": count,
    }
