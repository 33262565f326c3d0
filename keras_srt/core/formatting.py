"""Numbers as text for people."""

from __future__ import annotations


def format_duration(seconds: float) -> str:
    """Seconds in the unit that a person would use: "45 s", "12 min", "3.4 h", "8.0 days"."""
    for size, unit in ((86400.0, "days"), (3600.0, "h")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{max(1, round(seconds))} s"
