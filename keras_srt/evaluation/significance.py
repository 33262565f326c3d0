"""Runs side by side: which differences of their accuracies are more than chance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.evaluation.per_image import Outcomes
from keras_srt.evaluation.runner import proportion

LEVEL = 0.05  # of all differences of a comparison together


class Evaluation(NamedTuple):
    """What is kept of an evaluation.

    Attributes:
        folder: of the run, or of the reports.
        report: the content of `report.json`.
        outcomes: each image's answers; None where `outcomes.npz` is missing.
    """

    folder: Path
    report: Mapping[str, Any]
    outcomes: Outcomes | None

    @classmethod
    def read(cls, folder: Path) -> Evaluation:
        """Reads a run folder, or what `evaluate --report-dir` wrote.

        Raises:
            UserError: it has no report, or something in it is damaged.
        """
        path, outcomes = folder / "report.json", folder / "outcomes.npz"
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
            for key in ("name", "dataset", "clean", "attacks", "worst_case"):
                report[key]
        except FileNotFoundError as error:
            raise UserError(
                f"{folder}: has no report.json; allowed: folders of finished runs, or of "
                "`keras-srt evaluate --report-dir`"
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: can't be read ({type(error).__name__}: {error})") from error
        return cls(folder, report, Outcomes.load(outcomes) if outcomes.is_file() else None)

    def attack(self, name: str) -> tuple[Any, ...] | None:
        """What an attack was, to compare it by; None where there was none of that name."""
        for attack in self.report["attacks"]:
            if attack["name"] == name:
                return attack["norm"], attack["epsilon"], attack["settings"]
        return None

    def result(self, name: str) -> Mapping[str, Any]:
        """Share and interval under an attack, or of "clean"."""
        if name == "clean":
            return self.report["clean"]
        return next(each for each in self.report["attacks"] if each["name"] == name)

    def right(self, names: Sequence[str]) -> np.ndarray | None:
        """Whether each image is right untampered and under these attacks: bool [n], or None."""
        if self.outcomes is None:
            return None
        return np.logical_and.reduce(
            [self.outcomes.right, *map(self.outcomes.still_right, names)], axis=0
        )


def compare(folders: Sequence[Path]) -> dict[str, Any]:
    """Compares each evaluation with the first one.

    Of the same test images, by the exact test of McNemar: images that one has right and the
    other wrong are as likely to go either way. Of other images, or where the answers weren't
    kept, by Fisher's exact test. The p-values of all rows are adjusted together (Holm).

    Args:
        folders: two or more, of finished runs or of `evaluate --report-dir`.

    Returns:
        `{"schema", "runs": [{"name", "folder", "reduced", "paired"}], "rows": [{"name", "cells":
        [{"accuracy", "ci95", "n", "difference", "p", "adjusted_p", "significant"}]}],
        "left_out": texts}`; the first cell of a row has no difference.

    Raises:
        UserError: fewer than two, one without a report, or of another dataset.

    Example:
        >>> compare([Path("runs/srt"), Path("runs/rt")])["rows"]  # doctest: +SKIP

    Source: McNemar 1947, Psychometrika 12; Holm 1979, Scandinavian Journal of Statistics 6.
    """
    if len(folders) < 2:
        raise UserError(f"compare: got {len(folders)} folder; allowed: two or more")
    evaluations = [Evaluation.read(folder) for folder in folders]
    first = evaluations[0]
    for other in evaluations[1:]:
        ours, theirs = (each.report["dataset"]["title"] for each in (first, other))
        if ours != theirs:
            raise UserError(
                f"compare: {first.folder} is of {ours}, {other.folder} of {theirs}; allowed: "
                "evaluations on one dataset"
            )
    shared, left_out = _shared_attacks(evaluations)
    rows = [_row(name, [name], evaluations) for name in ("clean", *shared)]
    if len(shared) > 1:
        rows += _worst_case(shared, evaluations, left_out)
    _adjust([cell for row in rows for cell in row["cells"][1:]])
    runs = [
        {
            "name": each.report["name"],
            "folder": str(each.folder),
            "reduced": each.report.get("reduced"),
            "paired": _is_paired(first, each),
        }
        for each in evaluations
    ]
    return {"schema": 1, "runs": runs, "rows": rows, "left_out": left_out}


def _shared_attacks(evaluations: Sequence[Evaluation]) -> tuple[list[str], list[str]]:
    """Names of the attacks that all have with the same settings; what is said of the others."""
    names = dict.fromkeys(
        attack["name"] for each in evaluations for attack in each.report["attacks"]
    )
    shared, left_out = [], []
    for name in names:
        known = [each.attack(name) for each in evaluations]
        if None in known:
            missing = evaluations[known.index(None)].folder
            left_out.append(f"{name}: not run on {missing}")
        elif any(other != known[0] for other in known):
            left_out.append(f"{name}: its settings differ")
        else:
            shared.append(name)
    return shared, left_out


def _is_paired(first: Evaluation, other: Evaluation) -> bool:
    digests = [each.report["dataset"].get("test_sha256") for each in (first, other)]
    kept = first.outcomes is not None and other.outcomes is not None
    return kept and digests[0] is not None and digests[0] == digests[1]


def _row(title: str, names: Sequence[str], evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """A line: "clean" or an attack, as the reports have it."""
    attacks = [name for name in names if name != "clean"]
    results = [each.result(title) for each in evaluations]
    return _line(title, results, [each.right(attacks) for each in evaluations], evaluations)


def _worst_case(
    shared: Sequence[str], evaluations: Sequence[Evaluation], left_out: list[str]
) -> list[dict[str, Any]]:
    """The line of the worst case over the shared attacks; none where answers weren't kept."""
    right = [each.right(shared) for each in evaluations]
    for evaluation, known in zip(evaluations, right, strict=True):
        if known is None:
            left_out.append(f"worst case: {evaluation.folder} has no outcomes.npz to know it by")
            return []
    title = f"worst case of these {len(shared)}"
    return [_line(title, [proportion(each) for each in right], right, evaluations)]


def _line(
    title: str,
    results: Sequence[Mapping[str, Any]],
    right: Sequence[np.ndarray | None],
    evaluations: Sequence[Evaluation],
) -> dict[str, Any]:
    cells = [{key: result[key] for key in ("accuracy", "ci95", "n")} for result in results]
    for number in range(1, len(cells)):
        cell = cells[number]
        cell["difference"] = cell["accuracy"] - cells[0]["accuracy"]
        if _is_paired(evaluations[0], evaluations[number]):
            cell["p"] = mcnemar(right[0], right[number])
        else:
            cell["p"] = fisher(cells[0], cell)
    return {"name": title, "cells": cells}


def mcnemar(right: np.ndarray, other: np.ndarray) -> float:
    """Two-sided p-value of McNemar's exact test: 2 P(B ≤ min(b, c)), B ~ Binomial(b + c, 1/2).

    Args:
        right: bool [n], whether the first has an image right.
        other: bool [n], the second.

    Example:
        >>> mcnemar(np.bool_([1, 1, 1, 1, 0]), np.bool_([0, 0, 0, 1, 0]))
        0.25
    """
    from scipy.stats import binomtest

    only_first, only_second = int((right & ~other).sum()), int((~right & other).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second).pvalue)


def fisher(result: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Two-sided p-value of Fisher's exact test of two shares.

    Args:
        result: `{"accuracy": share, "n": n}`.
        other: the same.

    Example:
        >>> round(fisher({"accuracy": 1.0, "n": 3}, {"accuracy": 0.0, "n": 3}), 9)
        0.1
    """
    from scipy.stats import fisher_exact

    counts = [(round(each["accuracy"] * each["n"]), each["n"]) for each in (result, other)]
    return float(fisher_exact([[right, n - right] for right, n in counts]).pvalue)


def _adjust(cells: Sequence[dict[str, Any]]) -> None:
    """Holm: the smallest p counts times their number, the next one time less, never falling."""
    highest = 0.0
    ordered = sorted(cells, key=lambda cell: cell["p"])
    for rank, cell in enumerate(ordered):
        highest = max(highest, min(1.0, cell["p"] * (len(ordered) - rank)))
        cell["adjusted_p"], cell["significant"] = highest, highest < LEVEL
