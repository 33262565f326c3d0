"""Results of a made-up target, with every kind of cell."""


def cell(accuracy, patent=None, seeds=None, n=1000):
    if accuracy is None:
        return {"accuracy": None, "patent": patent}
    seeds = seeds or {"0": accuracy}
    difference = None if patent is None else accuracy - patent
    interval = [accuracy - 0.02, accuracy + 0.01]
    return {"accuracy": accuracy, "ci95": interval, "n": n, "seeds": seeds} | {
        "patent": patent,
        "difference": difference,
    }


def make_results():
    """Results as `keras_srt.reproduce.target_results` makes them."""
    columns = [{"key": "clean", "title": "clean"}, {"key": "pgd", "title": "PGD"}]
    seeds = {"0": 0.95, "1": 0.97}
    rows = [
        {"key": "rt", "title": "RT", "cells": [cell(0.98), cell(0.9, n=200)]},
        {"key": "srt", "title": "SRT", "cells": [cell(0.99, 0.993), cell(0.96, 0.966, seeds)]},
        {"key": "uat", "title": "UAT++", "cells": [cell(None), cell(None, 0.5)]},
    ]
    distance = {"norm": "l2", "mean": 1.25, "median": None, "found": 7, "accuracy_at": []}
    distance["accuracy_at"] = [{"epsilon": 0.5, "accuracy": 0.75}]
    rows[0]["cells"][1]["distances"] = [distance]
    settings = {"name": "pgd", "epsilon": 8 / 255, "step_size": None, "random_start": True}
    model = {"name": "m", "objective": {"name": "srt", "robust_weight": 1.0}, "seed": 0}
    model |= {"labeled": 10000, "unlabeled": 49000, "labeled_per_step": 64, "steps": 1000}
    return {
        "target": "table3", "title": "Table 3", "dataset": "mnist", "scale": "quick",
        "reduced": True, "command": "keras-srt reproduce table3", "notes": ["A note."],
        "reading": "patent", "patent": "source",
        "attacks": [{"settings": settings, "images": 1000}],
        "panels": [{"title": "Panel", "axis": None, "columns": columns, "rows": rows}],
        "models": [model | {"train_seconds": 480.0, "folder": "m-1234"}],
    }  # fmt: skip
