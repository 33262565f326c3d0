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
from keras_srt.distribution import Distribution, Task, read_task
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
from keras_srt.experiment.stage import is_trained
from keras_srt.experiment.standalone import evaluate_again
from keras_srt.experiment.training import Interrupted, check_split, train
from keras_srt.runs import RunFolder


def run_all(
    config: Config,
    run: RunFolder,
    data_dir: Path | None,
    resume: bool = False,
    how_to_resume: str = "",
    strategy: str | None = None,
) -> dict[str, Any]:
    """Trains, evaluates on the test part, reports and exports; returns the report.

    Of several workers only the chief does more than train; the others return an empty report.
    `strategy` takes the place of the config's.
    """
    info = config.data.dataset.info(data_dir)
    # What can't work is found before the folder is made.
    plan = plans.make_plan(config, info)
    strategy = config.training.strategy if strategy is None else strategy
    task = read_task(strategy)
    if resume and is_trained(run, plan):
        # The chief may have been interrupted after the others had gone.
        if not task.is_chief:
            return {}
        strategy, task = "one_device", Task()
    distribution = Distribution.make(strategy, task)
    distribution.check(plan.sizes, config.data.validation)
    build_classifier(config, info, config.training.precision)
    if config.data.selection == "first" and not run.split.is_file():
        # Whether the first images have every class, their labels alone tell.
        check_split(config, info, data_dir)
    with distribution.workplace(run, how_to_resume) as own:
        distribution.check_agreement(config.to_json(), own.last_state)
        own.claim(config.to_json(), resume, read=lambda path: load_config(str(path)).to_json())
        if own.report.is_file():
            print(f"this run is finished; its results are in {run.report}")
            return json.loads(own.report.read_text())
        train(config, own, data_dir, resume, how_to_resume, distribution)
    if not task.is_chief:
        return {}
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
