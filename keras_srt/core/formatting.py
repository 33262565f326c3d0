"""Numbers as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def format_duration(seconds: float) -> str:
    """Format a duration in seconds: "45 s", "12 min", "3.4 h" or "8.0 days"."""
    for size, unit in ((86400.0, "days"), (3600.0, "h")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{max(1, round(seconds))} s"


def format_count(count: int, noun: str) -> str:
    """Format a number of things: "1 step", "2,000 steps".

    Args:
        count: The number.
        noun: The singular of a noun whose plural ends in "s".
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def format_number(value: Any) -> str:
    """Format a setting briefly: 0.3, 8/255 for 0.031372…, 5x5x31 for a list.

    Args:
        value: A number, a list of numbers or a string, which is returned unchanged.

    Example:
        >>> format_number(8 / 255), format_number([5, 5, 31]), format_number(0.3)
        ('8/255', '5x5x31', '0.3')
    """
    if isinstance(value, list | tuple):
        return "x".join(format_number(item) for item in value)
    if not isinstance(value, float):
        return str(value)
    levels = value * 255
    # A float32 0.2 counts as the decimal 0.2, although the two differ slightly.
    is_decimal = abs(value - round(value, 3)) < 1e-7
    if 0 < value < 1 and not is_decimal and abs(levels - round(levels)) < 1e-4:
        return f"{round(levels)}/255"
    return f"{value:.4g}"


def format_percent(fraction: float) -> str:
    """Format a fraction as a percentage with two decimals and no sign: 0.5 as "50.00"."""
    return f"{100 * fraction:.2f}"


def format_interval(bounds: Sequence[float]) -> str:
    """Format two fractions as percentages: "[89.52, 90.69]"."""
    return f"[{format_percent(bounds[0])}, {format_percent(bounds[1])}]"


def shorten(text: str, width: int) -> str:
    """Cut a text to at most `width` characters, the last three being dots."""
    return text if len(text) <= width else text[: width - 3].rstrip() + "..."


def printable(text: str, encoding: str | None = "utf-8") -> str:
    r"""Escape characters that are not printable, such as terminal control codes and line breaks.

    Args:
        text: Name of a file or class; may be any text.
        encoding: Encoding of the output.

    Example:
        >>> printable("a\x1b[2J\n", "utf-8")
        'a\\x1b[2J\\n'
    """
    characters = [c if c.isprintable() else c.encode("unicode_escape").decode() for c in text]
    encoding = encoding or "ascii"
    return "".join(characters).encode(encoding, "backslashreplace").decode(encoding)
