"""The section of a report about corrupted images: its line and its note."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_srt.core.formatting import format_interval, format_percent

_LOWEST = 3
NOTE = (
    "Severities are those of CIFAR-10-C for images with a side of at most 64 pixels, and of "
    "ImageNet-C for larger images, where the corruption is in these benchmarks."
)


def corruptions_line(corruptions: Mapping[str, Any]) -> str:
    """Summarize the accuracy on corrupted images.

    Args:
        corruptions: Value of `corruptions` in `report.json`.

    Example:
        >>> parts = [{"name": "gray", "accuracy": 0.5}, {"name": "hue", "accuracy": 0.4}]
        >>> result = {"accuracy": 0.45, "ci95": [0.4, 0.5], "n": 900, "corruptions": parts}
        >>> corruptions_line(result).partition("; ")[2]
        'lowest: hue 40.00%, gray 50.00%'
    """
    parts = corruptions["corruptions"]
    ordered = sorted(parts, key=lambda part: part["accuracy"])[:_LOWEST]
    lowest = ", ".join(f"{part['name']} {format_percent(part['accuracy'])}%" for part in ordered)
    return (
        f"Corrupted images: {format_percent(corruptions['accuracy'])}% "
        f"{format_interval(corruptions['ci95'])}, mean over {len(parts)} corruptions at "
        f"5 severities, {corruptions['n']:,} images; lowest: {lowest}"
    )
