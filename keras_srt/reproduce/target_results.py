"""The results of a target as JSON-ready data, the input of tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_srt.core.registry import settings_of
from keras_srt.evaluation.intervals import proportion
from keras_srt.reproduce.evaluation_cache import Outcome, worst_case
from keras_srt.reproduce.job_models import Model, Models
from keras_srt.reproduce.patent import Patent
from keras_srt.reproduce.specs import Cell, Panel, Target
from keras_srt.reproduce.store import train_seconds

Results = dict[str, Any]


def make_results(target: Target, models: Models, command: str) -> Results:
    """Collect everything that a table or figure shows.

    Args:
        target: The table or figure.
        models: The models with their evaluations; missing ones are shown as not run.
        command: The command that reproduces the target.

    Returns:
        JSON-ready values. Accuracies and differences are fractions.
    """
    patent = Patent()
    return {
        "schema": 1,
        "target": target.name,
        "title": target.title,
        "dataset": target.dataset,
        "scale": target.scale,
        "reading": target.reading,
        "reduced": target.scale != "full",
        "command": command,
        "notes": list(target.notes),
        "patent": patent.source if target.in_patent else None,
        "panels": [_panel(panel, target, models, patent) for panel in target.panels],
        "attacks": _attacks(target, models),
        "models": [_model(model) for model in models.of(target)],
    }


def _panel(panel: Panel, target: Target, models: Models, patent: Patent) -> Results:
    rows: list[Results] = []
    for row in panel.rows:
        cells = []
        for column, cell in zip(panel.columns, row.cells, strict=True):
            table, printed = panel.patent_cells or (target.name, column.key)
            known = patent.accuracy(table, target.dataset, row.key, printed)
            cells.append(_cell(cell, known, target, models))
        rows.append({"key": row.key, "title": row.title, "cells": cells})
    columns = [{"key": column.key, "title": column.title} for column in panel.columns]
    found: Results = {"title": panel.title, "axis": panel.axis, "columns": columns, "rows": rows}
    if panel.patent_cells is not None:
        found["rms_difference"] = [
            _rms([row["cells"][index].get("difference") for row in rows])
            for index in range(len(columns))
        ]
    return found


def _rms(differences: Sequence[float | None]) -> float | None:
    """Return the root mean square of differences, or None if one is missing."""
    known = [value for value in differences if value is not None]
    return float(np.sqrt(np.mean(np.square(known)))) if len(known) == len(differences) else None


def _cell(cell: Cell, known: float | None, target: Target, models: Models) -> Results:
    """Return an accuracy with its interval, or None as accuracy if nothing was run."""
    by_seed: dict[int, np.ndarray] = {}
    distances = []
    for seed in models.seeds:
        outcomes = _outcomes(cell, target, models, seed)
        if outcomes:
            by_seed[seed] = worst_case(outcomes)
            distances += [o.entry["distance"] for o in outcomes if "distance" in o.entry]
    if not by_seed:
        return {"accuracy": None, "patent": known}
    found = summarize(list(by_seed.values()))
    found["seeds"] = {str(seed): float(np.mean(still)) for seed, still in by_seed.items()}
    found["patent"] = known
    found["difference"] = None if known is None else found["accuracy"] - known
    return found | ({"distances": distances} if distances else {})


def summarize(by_seed: Sequence[np.ndarray]) -> Results:
    """Compute the mean accuracy over seeds, and the Wilson interval of this accuracy on n images.

    Args:
        by_seed: bool [n] for each seed, correctly classified under attack.

    Returns:
        `{"accuracy", "ci95", "n"}`.

    Example:
        >>> summarize([np.array([True, True]), np.array([True, False])])["accuracy"]
        0.75
    """
    accuracy = float(np.mean([np.mean(still) for still in by_seed]))
    images = len(by_seed[0])
    # All seeds are evaluated on the same images, so more seeds don't narrow the interval.
    right = np.arange(images) < round(accuracy * images)
    return {**proportion(right), "accuracy": accuracy}


def _outcomes(cell: Cell, target: Target, models: Models, seed: int) -> list[Outcome]:
    """Return the outcomes behind a cell, or none if one is missing."""
    model = models.get(cell.model, target, seed)
    if not model.finished:
        return []
    wanted = [models.wanted(attack, target) for attack in cell.attacks or (None,)]
    there = [model.open().find(one.attack, one.limit, seed) for one in wanted]
    return [outcome for outcome in there if outcome is not None] if all(there) else []


def _attacks(target: Target, models: Models) -> list[Results]:
    """Return each attack of a target once: all settings and the number of images."""
    found: list[Results] = []
    for spec in target.models():
        for attack in target.attacks_on(spec):
            wanted = models.wanted(attack, target)
            entry = {"settings": settings_of(wanted.attack), "images": wanted.limit}
            if entry not in found:
                found.append(entry)
    return found


def _model(model: Model) -> Results:
    """Describe how a model was or will be trained."""
    described = {
        "name": model.config.name,
        "objective": settings_of(model.config.objective),
        "seed": model.config.seed,
        "labeled": model.plan.num_labeled,
        "unlabeled": model.plan.num_unlabeled,
        "labeled_per_step": model.plan.sizes.labeled,
        "steps": model.plan.steps,
        "train_seconds": None,
        "folder": None,
    }
    if model.finished:
        run = model.started.run
        described |= {"train_seconds": round(train_seconds(run), 1), "folder": run.path.name}
    return described
