"""The way of a run: config -> data -> training -> evaluation -> report -> export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from keras_srt import plan as plans
from keras_srt import report as reports
from keras_srt.attacks import Victim
from keras_srt.config import Config
from keras_srt.deployment import Attacked
from keras_srt.experiment.classifiers import (
    COMPONENTS,
    best_classifier,
    build_classifier,
    build_model,
    load_config,
    load_run_config,
)
from keras_srt.experiment.publication import (
    add_deployment,
    describe_export,
    device_training,
    export_run,
)
from keras_srt.experiment.results import (
    evaluate,
    load_test,
    look_for_masking,
    make_report,
    write_report,
)
from keras_srt.experiment.standalone import evaluate_again
from keras_srt.experiment.training import Interrupted, draw_split, train
from keras_srt.runs import RunFolder


def run_all(
    config: Config,
    run: RunFolder,
    data_dir: Path | None,
    resume: bool = False,
    how_to_resume: str = "",
) -> dict[str, Any]:
    """Trains, evaluates on the test part, reports and exports; returns the report."""
    info = config.data.dataset.info(data_dir)
    # What can't work is found before the folder is made.
    plans.make_plan(config, info)
    build_classifier(config, info, config.training.precision)
    if config.data.selection == "first" and not run.split.is_file():
        # Whether the first images have every class, their labels alone tell.
        draw_split(config, config.data.dataset.load_train(data_dir)[1], info)
    run.claim(config.to_json(), resume)
    if run.report.is_file():
        print(f"this run is finished; its results are in {run.report}")
        return json.loads(run.report.read_text())
    train(config, run, data_dir, resume, how_to_resume)
    victim = Victim(best_classifier(config, run, info), config.evaluation.batch_size)
    test = load_test(config, data_dir, config.evaluation.limit)
    robustness = evaluate(config, victim, test, config.evaluation.attacks)
    if config.evaluation.deployment:
        Attacked.of(test.images, robustness, config.evaluation.deployment).save(run.attacked)
    masking = look_for_masking(config, victim, test)
    report = write_report(config, info, robustness, run, test.images, masking)
    print(reports.terminal_table(report), flush=True)
    exported = export_run(config, run, data_dir)
    print(describe_export(exported), flush=True)
    report |= add_deployment(config, run, exported, data_dir)
    print(f"report      {run.path / 'report.html'}")
    return report


__all__ = [
    "COMPONENTS",
    "Interrupted",
    "add_deployment",
    "best_classifier",
    "build_classifier",
    "build_model",
    "describe_export",
    "device_training",
    "evaluate",
    "evaluate_again",
    "export_run",
    "load_config",
    "load_run_config",
    "load_test",
    "look_for_masking",
    "make_report",
    "run_all",
    "train",
    "write_report",
]
