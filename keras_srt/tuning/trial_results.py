"""Results of trials: files, ranking and tables."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_srt.core.files import write_json


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A finished trial.

    Attributes:
        trial: The name of the trial.
        values: Setting -> value.
        steps: Training steps.
        robust: Robust validation accuracy in the search's neighborhood; None if it failed.
        clean: Clean validation accuracy; None if it failed.
        seconds: Seconds of training.
        reason: Why it failed, or "".
    """

    trial: str
    values: dict[str, Any]
    steps: int
    robust: float | None = None
    clean: float | None = None
    seconds: float = 0.0
    reason: str = ""

    def save(self, run: Path) -> None:
        """Write `trial.json` to the run folder of the trial."""
        run.mkdir(parents=True, exist_ok=True)
        write_json(run / "trial.json", dataclasses.asdict(self))


def read_outcome(run: Path) -> Outcome | None:
    """Read `trial.json`; None if it is missing or damaged."""
    try:
        return Outcome(**json.loads((run / "trial.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        # The trial is then scored again.
        return None


def ranked(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Sort trials by robust accuracy, then by steps, then by name; failed trials last.

    Example:
        >>> made = [Outcome("0", {}, 9, robust=0.5), Outcome("1", {}, 9, reason="NaN"),
        ...         Outcome("2", {}, 9, robust=0.75)]
        >>> [outcome.trial for outcome in ranked(made)]
        ['2', '0', '1']
    """

    def order(outcome: Outcome) -> tuple[float, int, str]:
        score = -1.0 if outcome.robust is None else outcome.robust
        return -score, -outcome.steps, outcome.trial

    return sorted(outcomes, key=order)


def shown(value: Any) -> str:
    """Format a value for tables: floats with four digits, other values as JSON."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def _rows(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """Return the rows of a table, header first."""
    names = list(outcomes[0].values)
    short = short_names(names)
    rows = [["trial", *short, "steps", "robust %", "clean %", "seconds"]]
    for outcome in ranked(outcomes):
        scores = [outcome.robust, outcome.clean]
        cells = ["failed" if score is None else f"{100 * score:.1f}" for score in scores]
        values = [shown(outcome.values[name]) for name in names]
        rows.append(
            [outcome.trial, *values, f"{outcome.steps:,}", *cells, f"{outcome.seconds:.0f}"]
        )
    return rows


def short_names(names: Sequence[str]) -> list[str]:
    """Shorten dotted names to their last parts if these are unique.

    Example:
        >>> short_names(["training.ema", "objective.name", "model.width"])
        ['ema', 'objective.name', 'width']
    """
    last = [name.rpartition(".")[2] for name in names]
    return [
        short if last.count(short) == 1 and short != "name" else name
        for name, short in zip(names, last, strict=True)
    ]


def terminal_table(outcomes: Sequence[Outcome]) -> str:
    """Format the trials as text, best first, with the reasons of failures.

    Args:
        outcomes: At least one trial.

    Returns:
        Lines without a trailing newline.

    Example:
        >>> made = Outcome("0", {"training.ema": 0.99}, 100, robust=0.5, clean=0.75, seconds=8)
        >>> print(terminal_table([made]))
        trial   ema  steps  robust %  clean %  seconds
        0      0.99    100      50.0     75.0        8
    """
    rows = _rows(outcomes)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(lines + _reasons(outcomes))


def markdown_table(outcomes: Sequence[Outcome]) -> str:
    """Format the same table in Markdown."""
    heading, *rows = [[cell.replace("|", "\\|") for cell in row] for row in _rows(outcomes)]
    rule = ["---", *(["---:"] * (len(heading) - 1))]
    lines = [f"| {' | '.join(row)} |" for row in (heading, rule, *rows)]
    reasons = [f"- {reason}" for reason in _reasons(outcomes)]
    return "\n".join(lines + ([""] if reasons else []) + reasons)


def _reasons(outcomes: Sequence[Outcome]) -> list[str]:
    return [f"trial {o.trial} failed: {o.reason}" for o in ranked(outcomes) if o.reason]
