"""Statistical comparison of runs: which differences of their accuracies are significant."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.evaluation.intervals import proportion
from keras_srt.evaluation.per_image import ImagePredictions

LEVEL = 0.05  # family-wise, for all differences of a comparison


class Evaluation(NamedTuple):
    """A stored evaluation.

    Attributes:
        folder: Folder of the run or of the reports.
        report: Content of `report.json`.
        predictions: Predicted classes of each image; None if `outcomes.npz` is missing.
    """

    folder: Path
    report: Mapping[str, Any]
    predictions: ImagePredictions | None

    @classmethod
    def read(cls, folder: Path) -> Evaluation:
        """Read a run folder, or a folder that `evaluate --report-dir` wrote.

        Raises:
            UserError: The folder has no report, or one of its files is damaged.
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
        return cls(folder, report, ImagePredictions.load(outcomes) if outcomes.is_file() else None)

    def attack(self, name: str) -> tuple[Any, ...] | None:
        """Norm, radius and settings of an attack; None if the evaluation had no such attack."""
        for attack in self.report["attacks"]:
            if attack["name"] == name:
                return attack["norm"], attack["epsilon"], attack["settings"]
        return None

    def result(self, name: str) -> Mapping[str, Any]:
        """Accuracy and interval under an attack, or of "clean"."""
        if name == "clean":
            return self.report["clean"]
        return next(each for each in self.report["attacks"] if each["name"] == name)

    def surviving(self, names: Sequence[str]) -> np.ndarray | None:
        """Whether each image is correctly classified, clean and attacked, bool [n]; or None."""
        if self.predictions is None:
            return None
        return np.logical_and.reduce(
            [self.predictions.correct, *map(self.predictions.surviving, names)], axis=0
        )


def compare(folders: Sequence[Path]) -> dict[str, Any]:
    """Compare each evaluation with the first one.

    McNemar's exact test compares evaluations on the same test images. Fisher's exact test
    compares evaluations on different images, or without stored predictions. Means over
    corruptions are compared by the t-test, paired on the same images. The p-values of all rows
    are adjusted together (Holm).

    Args:
        folders: Two or more folders of finished runs or of `evaluate --report-dir`.

    Returns:
        `{"schema", "runs": [{"name", "folder", "reduced", "paired"}], "rows": [{"name", "cells":
        [{"accuracy", "ci95", "n", "difference", "p", "adjusted_p", "significant"}]}],
        "left_out": texts}`. The first cell of a row has no difference.

    Raises:
        UserError: There are fewer than two folders, a report is missing, or datasets differ.

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
        if ours != theirs and not _have_same_images(first, other):
            raise UserError(
                f"compare: {first.folder} is of {ours}, {other.folder} of {theirs}; allowed: "
                "evaluations on one dataset, or on equal test images"
            )
    shared, left_out = _shared_attacks(evaluations)
    rows = [_row(name, [name], evaluations) for name in ("clean", *shared)]
    if len(shared) > 1:
        rows += _worst_case(shared, evaluations, left_out)
    rows += _corruptions(evaluations)
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
    """Names of the attacks that all evaluations share, and a reason for each of the others."""
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
    stored = first.predictions is not None and other.predictions is not None
    return stored and _have_same_images(first, other)


def _have_same_images(first: Evaluation, other: Evaluation) -> bool:
    """Return whether the images and labels are equal, wherever their files are."""
    digests = [each.report["dataset"].get("test_sha256") for each in (first, other)]
    return digests[0] is not None and digests[0] == digests[1]


def _row(title: str, names: Sequence[str], evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Row of "clean" or of an attack, with the accuracies of the reports."""
    attacks = [name for name in names if name != "clean"]
    results = [each.result(title) for each in evaluations]
    return _make_row(title, results, [each.surviving(attacks) for each in evaluations], evaluations)


def _worst_case(
    shared: Sequence[str], evaluations: Sequence[Evaluation], left_out: list[str]
) -> list[dict[str, Any]]:
    """Row of the worst case over the shared attacks; none without stored predictions."""
    surviving = [each.surviving(shared) for each in evaluations]
    for evaluation, own in zip(evaluations, surviving, strict=True):
        if own is None:
            left_out.append(f"worst case: {evaluation.folder} has no outcomes.npz")
            return []
    title = f"worst case of these {len(shared)}"
    return [_make_row(title, [proportion(each) for each in surviving], surviving, evaluations)]


def _make_row(
    title: str,
    results: Sequence[Mapping[str, Any]],
    surviving: Sequence[np.ndarray | None],
    evaluations: Sequence[Evaluation],
) -> dict[str, Any]:
    cells = [{key: result[key] for key in ("accuracy", "ci95", "n")} for result in results]
    for number in range(1, len(cells)):
        cell = cells[number]
        cell["difference"] = cell["accuracy"] - cells[0]["accuracy"]
        if _is_paired(evaluations[0], evaluations[number]):
            cell["p"] = mcnemar(surviving[0], surviving[number])
        else:
            cell["p"] = fisher(cells[0], cell)
    return {"name": title, "cells": cells}


def _corruptions(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Row of the mean over corruptions; none if an evaluation lacks it."""
    results = [each.report.get("corruptions", {}) for each in evaluations]
    names = [[part["name"] for part in result.get("corruptions", ())] for result in results]
    if not names[0] or any(other != names[0] for other in names):
        return []
    first, *others = results
    cells = [{key: result[key] for key in ("accuracy", "ci95", "n")} for result in results]
    for cell, evaluation, other in zip(cells[1:], evaluations[1:], others, strict=True):
        paired = _have_same_images(evaluations[0], evaluation) and first["n"] == other["n"]
        cell["difference"] = cell["accuracy"] - cells[0]["accuracy"]
        cell["p"] = t_test(first["correct_counts"], other["correct_counts"], paired)
    return [{"name": f"mean of {len(names[0])} corruptions", "cells": cells}]


def t_test(counts: Sequence[int], others: Sequence[int], paired: bool) -> float:
    """Two-sided p-value of the t-test of two means, Welch's unless `paired`.

    Args:
        counts: Correct predictions of each image by the first model.
        others: The same of the second model.
        paired: Whether both are of the same images.

    Example:
        >>> t_test([3, 4, 5], [3, 4, 5], paired=True)
        1.0
    """
    from scipy.stats import ttest_ind, ttest_rel

    if paired:
        return 1.0 if list(counts) == list(others) else float(ttest_rel(counts, others).pvalue)
    p = float(ttest_ind(counts, others, equal_var=False).pvalue)
    return 1.0 if np.isnan(p) else p  # NaN if all counts are equal


def mcnemar(correct: np.ndarray, other: np.ndarray) -> float:
    """Two-sided p-value of McNemar's exact test: 2 P(B ≤ min(b, c)), B ~ Binomial(b + c, 1/2).

    Args:
        correct: Whether the first model is correct, bool [n].
        other: Whether the second model is correct, bool [n].

    Example:
        >>> mcnemar(np.bool_([1, 1, 1, 1, 0]), np.bool_([0, 0, 0, 1, 0]))
        0.25
    """
    from scipy.stats import binomtest

    only_first, only_second = int((correct & ~other).sum()), int((~correct & other).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second).pvalue)


def fisher(result: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Two-sided p-value of Fisher's exact test of two accuracies.

    Args:
        result: `{"accuracy": share, "n": n}` of the first model.
        other: The same of the second model.

    Example:
        >>> round(fisher({"accuracy": 1.0, "n": 3}, {"accuracy": 0.0, "n": 3}), 9)
        0.1
    """
    from scipy.stats import fisher_exact

    counts = [(round(each["accuracy"] * each["n"]), each["n"]) for each in (result, other)]
    return float(fisher_exact([[correct, n - correct] for correct, n in counts]).pvalue)


def _adjust(cells: Sequence[dict[str, Any]]) -> None:
    """Adjust the p-values by the method of Holm."""
    highest = 0.0
    ordered = sorted(cells, key=lambda cell: cell["p"])
    for rank, cell in enumerate(ordered):
        highest = max(highest, min(1.0, cell["p"] * (len(ordered) - rank)))
        cell["adjusted_p"], cell["significant"] = highest, highest < LEVEL
