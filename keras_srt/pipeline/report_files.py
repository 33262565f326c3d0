"""The reports of an evaluation: report.json and what is made of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt import report as reports
from keras_srt.config.schema import Config
from keras_srt.core.errors import UserError
from keras_srt.core.registry import settings_of
from keras_srt.data import DatasetInfo
from keras_srt.evaluation.per_image import ImagePredictions, describe_classes, fingerprint
from keras_srt.evaluation.robustness import Robustness
from keras_srt.pipeline import plan as plans
from keras_srt.pipeline.evaluate import Measured
from keras_srt.pipeline.run_folder import RunFolder, write_json

_PICTURES = 8
# Skipped files that a report names.
_NAMED = 100


def make_report(
    config: Config,
    info: DatasetInfo,
    robustness: Robustness,
    run: RunFolder | None,
    name: str,
    parts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of report.json; without a run it says nothing about the training.

    Args:
        config: of the run, or of the evaluation.
        info: of its dataset.
        robustness: what the attacks did.
        run: what was evaluated, or None for a model from elsewhere.
        name: of the report.
        parts: what else was measured, see `Measured`.
    """
    report: dict[str, Any] = {
        "schema": 1,
        "name": name,
        "reduced": f"variant {config.variant}" if config.variant else None,
        "dataset": {
            "name": config.data.dataset.name,
            "title": info.title,
            "num_train": info.num_train,
            "num_test": info.num_test,
        },
    }
    report |= robustness.report()
    report |= describe_classes(ImagePredictions.of(robustness), info.class_names)
    report |= parts or {}
    if run is not None:
        _add_training(report, config, info, run)
    return report


def _add_training(
    report: dict[str, Any], config: Config, info: DatasetInfo, run: RunFolder
) -> None:
    """Adds how the classifier was trained to a report."""
    plan = plans.make_plan(config, info)
    resolved = settings_of(config)
    seconds = round(sum(float(row["seconds"]) for row in run.read_history()), 1)
    # What one step asks, less where the search grew to its full size.
    passes = {
        kind: round(plan.steps * plan.cost_ratio * count)
        for kind, count in plan.passes._asdict().items()
    }
    report["dataset"] |= {
        "labeled": plan.num_labeled,
        "unlabeled": plan.num_unlabeled,
        "validation": plan.num_validation,
    }
    if skipped := config.data.dataset.skipped():
        report["dataset"]["skipped"] = {"count": len(skipped), "files": sorted(skipped)[:_NAMED]}
    report |= {
        "objective": {**resolved["objective"], "labeled_per_step": plan.sizes.labeled},
        "neighborhood": {**config.neighborhood.describe(), "settings": resolved["neighborhood"]},
        "model": resolved["model"],
        "seed": config.seed,
        "steps": plan.steps,
        "train_seconds": seconds,
        "cost": {
            "training": {"image_passes": passes, "seconds": seconds},
            **report.get("cost", {}),
        },
    }
    environment = run.path / "environment.json"
    for key, path in (("teacher", run.teacher_summary), ("environment", environment)):
        if path.is_file():
            report[key] = read_json(path)


def read_json(path: Path) -> Any:
    """Reads a file of a run folder.

    Raises:
        UserError: it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: can't be read ({error}); allowed: what the run wrote") from error


def write_report(
    config: Config,
    info: DatasetInfo,
    measured: Measured,
    run: RunFolder | None,
    folder: Path,
    name: str,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes report.json, outcomes.npz, the figures, report.html and MODEL_CARD.md into a folder.

    Args:
        config: of the run, or of the evaluation.
        info: of its dataset.
        measured: what was found.
        run: what was evaluated, or None for a model from elsewhere.
        folder: where to write; has to exist.
        name: of the report.
        about: more parts of report.json.

    Returns:
        The content of report.json, which is written last.
    """
    report = make_report(config, info, measured.robustness, run, name, measured.parts)
    report["dataset"]["test_sha256"] = fingerprint(*measured.test)
    report |= about or {}
    ImagePredictions.of(measured.robustness).save(folder / "outcomes.npz")
    examples = choose_examples(measured.test.images, measured.robustness)
    history = None if run is None else run.history
    figures = reports.write_figures(report, history, examples, info.class_names, folder)
    reports.write_pages(report, figures, folder)
    write_json(folder / "report.json", report)
    return report


def choose_examples(images: np.ndarray, robustness: Robustness) -> reports.Examples:
    """Some images that were fooled, those of each attack in turn; if none was, some that held.

    Args:
        images: uint8 [n, height, width, channels], those that were attacked.
        robustness: what was done to them.
    """
    outcomes = ImagePredictions.of(robustness)
    names = outcomes.strongest_first()
    fooled = {name: outcomes.correct & ~outcomes.surviving(name) for name in names}
    if not any(which.any() for which in fooled.values()):
        fooled = {names[0]: outcomes.correct}
    chosen = list(_in_turn({name: list(np.flatnonzero(which)) for name, which in fooled.items()}))
    numbers = np.array([number for number, _ in chosen], int)
    by = [name for _, name in chosen]
    verdicts = robustness.outcomes
    before = np.float32(images[numbers] / 255.0)
    found = [verdicts[name].images[number] for number, name in chosen]
    return reports.Examples(
        before,
        np.stack(found) if found else before,
        robustness.labels[numbers],
        robustness.clean_classes[numbers],
        np.int32([verdicts[name].classes[number] for number, name in chosen]),
        by,
    )


def _in_turn(numbers: dict[str, list[int]]) -> Iterator[tuple[int, str]]:
    """Numbers of images, each once, from each list in turn, with its name."""
    taken: set[int] = set()
    while len(taken) < _PICTURES and any(numbers.values()):
        for name, left in numbers.items():
            while left and left[0] in taken:
                left.pop(0)
            if left and len(taken) < _PICTURES:
                taken.add(left[0])
                yield left.pop(0), name
