"""The rows of the results table: clean, each attack, worst case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from keras_srt.core.formatting import format_interval, format_number, format_percent

Report = Mapping[str, Any]

TABLE_WIDTH = 100  # maximum width of a table, in terminal columns

# Above this number, the last row counts the attacks instead of naming them.
_MAX_NAMED = 5
# Settings that a short description includes, in this order.
_SHORT = {
    "grid": "{} grid",
    "num_samples": "{} draws",
    "points": "{} points",
    "max_translation": "{} px",
    "max_rotation": "{} deg",
    "num_steps": "{} steps",
    "restarts": "{} restarts",
    "queries": "{} queries",
    "step_size": "step {}",
}


class Row(NamedTuple):
    """One row of the results table.

    Attributes:
        kind: "clean", "attack" or "worst".
        name: Name of the attack, "clean" or "worst case".
        settings: Short description of the settings.
        accuracy: Fraction of images that are correctly classified.
        interval: 95% confidence interval of the accuracy.
        n: Number of images.
        seconds: Duration of the attack; None for rows that are not attacks.
    """

    kind: str
    name: str
    settings: str
    accuracy: float
    interval: tuple[float, float]
    n: int
    seconds: float | None

    @property
    def values(self) -> tuple[str, str, str, str]:
        """Accuracy, interval, n and seconds as text."""
        seconds = "-" if self.seconds is None else f"{self.seconds:,.{int(self.seconds < 100)}f}"
        accuracy, interval = format_percent(self.accuracy), format_interval(self.interval)
        return accuracy, interval, f"{self.n:,}", seconds


def rows_of(report: Report) -> list[Row]:
    """Make the rows of the results table: clean, each attack, worst case."""
    worst = report["worst_case"]
    names = worst["attacks"]
    which = ", ".join(names) if len(names) <= _MAX_NAMED else f"all {len(names)} attacks"
    return [
        _row("clean", "clean", "clean images", report["clean"]),
        *(_row("attack", a["name"], _describe(a), a) for a in report["attacks"]),
        _row("worst", "worst case", f"per image, over {which}", worst),
    ]


def _row(kind: str, name: str, settings: str, result: Mapping[str, Any]) -> Row:
    low, high = result["ci95"]
    return Row(
        kind, name, settings, result["accuracy"], (low, high), result["n"], result.get("seconds")
    )


def short_settings(attack: Mapping[str, Any]) -> str:
    """Describe the main settings of an attack, for example "linf eps 0.3, 40 steps"."""
    epsilon = attack["epsilon"]
    # Spatial attacks have no epsilon; their grid and degrees imply the norm.
    parts = [] if epsilon is None else [f"{attack['norm']} eps {format_number(epsilon)}"]
    for key, template in _SHORT.items():
        value = attack["settings"].get(key)
        if value is not None:
            text = template.format(format_number(value))
            parts.append(text[:-1] if value == 1 and template.endswith("s") else text)
    return ", ".join(parts)


def _describe(attack: Mapping[str, Any]) -> str:
    """Short settings, plus other results where the attack reports them."""
    return "; ".join(part for part in (short_settings(attack), *_extra_results(attack)) if part)


def _extra_results(attack: Mapping[str, Any]) -> list[str]:
    """Accuracy after each member; success rate of a targeted attack; distances and accuracies."""
    texts = []
    if "members" in attack:
        left = (
            f"{member['name']} {format_percent(member['accuracy'])}" for member in attack["members"]
        )
        texts.append(f"left after {', '.join(left)}")
    if "target_reached" in attack:
        target, share = attack["settings"]["target"], format_percent(attack["target_reached"])
        texts.append(f"target {target} reached by {share}%")
    if "distance" in attack:
        distance = attack["distance"]
        median = distance["median"]
        shown = "infinite" if median is None else f"{median:.4g}"
        texts.append(f"median distance {shown}")
        texts += [
            f"{format_percent(at['accuracy'])}% at eps {format_number(at['epsilon'])}"
            for at in distance["accuracy_at"]
            if at["epsilon"] != attack["epsilon"]
        ]
    return texts
