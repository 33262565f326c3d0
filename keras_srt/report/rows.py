"""What table, figures and page show: rows, texts and numbers of a report."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Report = Mapping[str, Any]

# Key in the report, symbol, meaning; in the order of eq. (6).
RISKS = (
    ("standard", "R_stand", "wrong without tampering"),
    ("robust", "R_rob", "the answer changes under attack, right or wrong"),
    ("adversarial", "R_adv", "wrong without tampering or under attack"),
)
TABLE_WIDTH = 100  # columns of the terminal
# More attacks than these are counted in the last row, and not named.
_NAMED = 5
BOUND_NOTE = "For each image, R_adv = R_stand + (1 - R_stand) * R_rob (eq. 6 of the paper)."
# Settings that a short description names.
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
    """One line of results.

    Attributes:
        kind: clean, attack or worst.
        name: of the attack, say.
        settings: in short.
        accuracy: share of images that are right.
        interval: its 95% interval.
        n: number of images.
        seconds: how long the attack took; None for what is no attack.
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
        return percent(self.accuracy), interval(self.interval), f"{self.n:,}", seconds


def rows_of(report: Report) -> list[Row]:
    """All results: clean, each attack, worst case."""
    worst = report["worst_case"]
    names = worst["attacks"]
    which = ", ".join(names) if len(names) <= _NAMED else f"all {len(names)} attacks"
    of_what = f"image by image, of {which}"
    return [
        _row("clean", "clean", "untampered images", report["clean"]),
        *(_row("attack", a["name"], _about(a), a) for a in report["attacks"]),
        _row("worst", "worst case", of_what, worst),
    ]


def _row(kind: str, name: str, settings: str, result: Mapping[str, Any]) -> Row:
    low, high = result["ci95"]
    return Row(
        kind, name, settings, result["accuracy"], (low, high), result["n"], result.get("seconds")
    )


def short_settings(attack: Mapping[str, Any]) -> str:
    """The settings of an attack that one looks for first, e.g. "linf eps 0.3, 40 steps"."""
    epsilon = attack["epsilon"]
    # Grids and degrees say the norm themselves.
    parts = [] if epsilon is None else [f"{attack['norm']} eps {number(epsilon)}"]
    for key, template in _SHORT.items():
        value = attack["settings"].get(key)
        if value is not None:
            text = template.format(number(value))
            parts.append(text[:-1] if value == 1 and template.endswith("s") else text)
    return ", ".join(parts)


def _about(attack: Mapping[str, Any]) -> str:
    """Its settings in short and, of targeted and of minimal-norm attacks, what else it found."""
    return "; ".join(part for part in (short_settings(attack), *_found(attack)) if part)


def _found(attack: Mapping[str, Any]) -> list[str]:
    """The share that reached the target; the median distance, and the accuracy at other radii."""
    texts = []
    if "target_reached" in attack:
        target, share = attack["settings"]["target"], percent(attack["target_reached"])
        texts.append(f"target {target} reached by {share}%")
    if "distance" in attack:
        distance = attack["distance"]
        median = distance["median"]
        shown = "infinite" if median is None else f"{median:.4g}"
        texts.append(f"median distance {shown}")
        others = [at for at in distance["accuracy_at"] if at["epsilon"] != attack["epsilon"]]
        texts += [f"{percent(at['accuracy'])}% at eps {number(at['epsilon'])}" for at in others]
    return texts


def read_history(path: Path | None) -> dict[str, np.ndarray]:
    """Columns of history.csv that hold numbers, one row a step; empty without the file."""
    if path is None or not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        # A resumed run repeats the steps since its checkpoint: the last ones count.
        rows = list({row["step"]: row for row in csv.DictReader(file)}.values())
    columns = {
        name: np.array([float(row[name] or "nan") for row in rows])
        for name in (rows[0] if rows else ())
    }
    return {name: values for name, values in columns.items() if np.isfinite(values).any()}


def reduced_note(report: Report) -> str:
    """What to say if the numbers are of no full reference run; empty if they are."""
    return f"Reduced run: {report['reduced']}" if report.get("reduced") else ""


def summary(report: Report) -> list[str]:
    """What it was trained on, in one sentence a topic; without training, the dataset alone."""
    topics = [_dataset_text(report["dataset"])]
    if "objective" in report:
        topics += [_training_text(report), _neighborhood_text(report["neighborhood"])]
    if "teacher" in report:
        topics.append(_teacher_text(report["teacher"]))
    if "victim" in report:
        topics += [_victim_text(report["victim"]), *report["victim"]["warnings"]]
    return topics


def _dataset_text(dataset: Mapping[str, Any]) -> str:
    labels = {
        "labeled": "labeled",
        "unlabeled": "unlabeled",
        "validation": "validation",
        "num_test": "test",
    }
    counts = [f"{dataset[key]:,} {text}" for key, text in labels.items() if key in dataset]
    counts.append(f"from a training split of {dataset['num_train']:,}")
    if "skipped" in dataset:
        counts.append(f"{dataset['skipped']['count']:,} files that can't be read were skipped")
    return f"{dataset['title']}: {', '.join(counts)}"


def _training_text(report: Report) -> str:
    objective = report["objective"]
    settings = ", ".join(
        f"{key} {number(value)}"
        for key, value in objective.items()
        if key != "name" and isinstance(value, int | float | str)
    )
    parts = [f"Objective {objective['name']} ({settings})", f"model {report['model']['name']}"]
    if report.get("steps") is not None:
        parts.append(f"{report['steps']:,} steps")
    if report.get("train_seconds") is not None:
        parts.append(f"trained for {duration(report['train_seconds'])}")
    return ", ".join(parts)


def _teacher_text(teacher: Mapping[str, Any]) -> str:
    return (
        f"Teacher: objective {teacher['objective']} on {teacher['labeled']:,} labeled images, "
        f"{teacher['steps']:,} steps, trained for {duration(teacher['train_seconds'])}, "
        f"{percent(teacher['val_accuracy'])}% of the validation images right after step "
        f"{teacher['best_step']:,}; it gave {teacher['pseudo_labeled']:,} unlabeled images their "
        "pseudo-labels"
    )


def _victim_text(target_model: Mapping[str, Any]) -> str:
    answers = target_model["answers"]
    if answers == "probabilities":
        answers += ", whose logarithms are attacked"
    possible = "with gradients: all attacks are possible"
    if not target_model["gradients"]:
        possible = f"without gradients: possible attacks are {', '.join(target_model['attacks'])}"
    return f"A {target_model['kind']} from elsewhere that answers with {answers}; {possible}"


def _neighborhood_text(neighborhood: Mapping[str, Any]) -> str:
    parts = (neighborhood["type"], neighborhood["order"], neighborhood["range"])
    return f"Perturbed neighborhood: {'; '.join(parts)}"


def duration(seconds: float) -> str:
    """A time in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def number(value: Any) -> str:
    """Short: 0.3, 8/255 for 0.031372…, 5x5x31 for a list; a string as it is."""
    if isinstance(value, list | tuple):
        return "x".join(number(item) for item in value)
    if not isinstance(value, float):
        return str(value)
    levels = value * 255
    # A float32 0.2 is a decimal, too, though it isn't quite 0.2.
    is_decimal = abs(value - round(value, 3)) < 1e-7
    if 0 < value < 1 and not is_decimal and abs(levels - round(levels)) < 1e-4:
        return f"{round(levels)}/255"
    return f"{value:.4g}"


def percent(share: float) -> str:
    """A share in percent, without the sign."""
    return f"{100 * share:.2f}"


def interval(bounds: tuple[float, float]) -> str:
    """Two shares in percent."""
    return f"[{percent(bounds[0])}, {percent(bounds[1])}]"


def shorten(text: str, width: int) -> str:
    """At most so many letters of a text."""
    return text if len(text) <= width else text[: width - 3].rstrip() + "..."
