"""The evaluation of a classifier, and the reports of a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt import plan as plans
from keras_srt import report as reports
from keras_srt.attacks import Attack, Victim
from keras_srt.components import settings_of
from keras_srt.config import Config
from keras_srt.data import DatasetInfo, Images
from keras_srt.evaluation import Progress, Robustness, evaluate_robustness
from keras_srt.lazy import tf
from keras_srt.masking import find_masking
from keras_srt.runs import RunFolder, write_json

_PICTURES = 8


def evaluate(
    config: Config,
    classifier: Callable[[tf.Tensor], tf.Tensor] | Victim,
    test: Images,
    attacks: Sequence[Attack],
) -> Robustness:
    """Attacks a classifier on test images and shows progress."""
    with _progress_bars() as progress:
        return evaluate_robustness(
            classifier,
            *test,
            attacks,
            batch_size=config.evaluation.batch_size,
            seed=config.seed,
            progress=progress,
        )


def look_for_masking(config: Config, victim: Victim, test: Images) -> dict[str, Any] | None:
    """Looks for gradient masking on the first test images, and shows progress.

    Returns:
        The part `masking` of report.json; None where the config or the attacks want none.
    """
    count = config.evaluation.masking
    images, labels = np.float32(test.images[:count] / 255.0), np.int32(test.labels[:count])
    with _progress_bars() as progress:
        return find_masking(
            victim, images, labels, config.evaluation.attacks, seed=config.seed, progress=progress
        )


def load_test(config: Config, data_dir: Path | None, limit: int | None) -> Images:
    """Reads the test part, or its first `limit` images."""
    images, labels = config.data.dataset.load_test(data_dir)
    return Images(images[:limit], labels[:limit])


@contextmanager
def _progress_bars() -> Iterator[Progress]:
    """One bar for each attack, with ETA; gone when the attack is done."""
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def progress(name: str, done: int, total: int) -> None:
        if name not in bars:
            for bar in bars.values():
                bar.close()
            bars[name] = tqdm(
                total=total, desc=name, unit="image", leave=False, file=sys.stderr, disable=None
            )
        bars[name].update(done - bars[name].n)

    try:
        yield progress
    finally:
        for bar in bars.values():
            bar.close()


def make_report(
    config: Config,
    info: DatasetInfo,
    robustness: Robustness,
    run: RunFolder | None,
    name: str,
    masking: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of report.json; without a run it says nothing about the training."""
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
    if run is not None:
        _add_training(report, config, info, run)
    return report | robustness.report() | ({"masking": masking} if masking else {})


def _add_training(
    report: dict[str, Any], config: Config, info: DatasetInfo, run: RunFolder
) -> None:
    """Adds how the classifier was trained to a report."""
    plan = plans.make_plan(config, info)
    resolved = settings_of(config)
    report["dataset"] |= {
        "labeled": plan.num_labeled,
        "unlabeled": plan.num_unlabeled,
        "validation": config.data.validation,
    }
    report |= {
        "objective": {**resolved["objective"], "labeled_per_step": plan.sizes.labeled},
        "neighborhood": {**config.neighborhood.describe(), "settings": resolved["neighborhood"]},
        "model": resolved["model"],
        "seed": config.seed,
        "steps": plan.steps,
        "train_seconds": round(sum(float(row["seconds"]) for row in run.read_history()), 1),
    }
    if run.teacher_summary.is_file():
        report["teacher"] = json.loads(run.teacher_summary.read_text())


def write_report(
    config: Config,
    info: DatasetInfo,
    robustness: Robustness,
    run: RunFolder,
    images: np.ndarray,
    masking: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes report.json, the figures and report.html into the run folder."""
    report = make_report(config, info, robustness, run, config.name, masking)
    name, verdict = list(robustness.verdicts.items())[-1]
    # Images that were right before, those that were fooled first.
    right = np.flatnonzero(robustness.right)
    fooled_first = np.argsort(robustness.still_right(name)[right], kind="stable")
    shown = right[fooled_first][:_PICTURES]
    examples = reports.Examples(
        np.float32(images[shown] / 255.0),
        verdict.images[shown],
        robustness.labels[shown],
        robustness.clean_classes[shown],
        verdict.classes[shown],
        name,
    )
    figures = reports.write_figures(report, run.history, examples, info.class_names, run.path)
    reports.write_html(report, figures, run.path / "report.html")
    write_json(run.report, report)
    return report
