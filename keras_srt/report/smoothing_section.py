"""The section of a report about randomized smoothing: its line and its note."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_srt.core.formatting import format_number, format_percent

NOTE = (
    "The smoothed classifier predicts the class that the model predicts most often under normal "
    "noise. A certificate is a proof, except for a probability of at most 0.1% for each image; an "
    "attack is an upper bound. Both are about the smoothed classifier: the exported model doesn't "
    "smooth by itself."
)


def smoothing_line(smoothing: Mapping[str, Any]) -> str:
    """Summarize the certified accuracies.

    Args:
        smoothing: Value of `smoothing` in `report.json`.

    Example:
        >>> points = [{"radius": 0.0, "accuracy": 0.9}, {"radius": 0.125, "accuracy": 0.8}]
        >>> smoothing_line({"sigma": 0.25, "samples": 100, "n": 50, "certified": points})
        'Smoothing, sigma 0.25: certified 90.00% at L2 0, 80.00% at 0.125 (50 images, 100 samples)'
    """
    texts = [
        f"{format_percent(point['accuracy'])}% at {'' if number else 'L2 '}"
        f"{format_number(point['radius'])}"
        for number, point in enumerate(smoothing["certified"])
    ]
    return (
        f"Smoothing, sigma {format_number(smoothing['sigma'])}: certified {', '.join(texts)} "
        f"({smoothing['n']:,} images, {smoothing['samples']:,} samples)"
    )
