"""The way of a run: config -> data -> training -> evaluation -> report -> export."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from keras_srt import report as reports
from keras_srt.attacks import TargetModel
from keras_srt.config.schema import Config
from keras_srt.core.errors import Interrupted
from keras_srt.data import DatasetInfo
from keras_srt.evaluation.attacked_images import AttackedImages
from keras_srt.pipeline import plan as plans
from keras_srt.pipeline.classifiers import (
    COMPONENTS,
    best_classifier,
    build_classifier,
    build_model,
    load_config,
    load_run_config,
)
from keras_srt.pipeline.data import check_split, train
from keras_srt.pipeline.distribution import Distribution, Task, read_task
from keras_srt.pipeline.evaluate import evaluate, load_test, measure
from keras_srt.pipeline.evaluate_again import evaluate_again
from keras_srt.pipeline.publish import (
    add_deployment,
    describe_export,
    device_training_settings,
    export_run,
)
from keras_srt.pipeline.report_files import make_report, read_json, write_report
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.pipeline.train import is_trained


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
    distribution.check(plan.sizes, plan.num_validation)
    build_classifier(config, info, config.training.precision)
    if config.data.selection == "first" and not run.split.is_file():
        # Whether the first images have every class, their labels alone tell.
        check_split(config, info, data_dir)
    with contextlib.ExitStack() as until_the_end:
        with distribution.workplace(run, how_to_resume) as own:
            distribution.check_agreement(config.to_json(), own.last_state)
            until_the_end.enter_context(own.held())
            own.claim(config.to_json(), resume, read=lambda path: load_config(str(path)).to_json())
            if own.report.is_file():
                print(f"this run is finished; its results are in {run.report}")
                return read_json(own.report)
            train(config, own, data_dir, resume, how_to_resume, distribution)
        return _finish(config, run, info, data_dir) if task.is_chief else {}


def _finish(
    config: Config, run: RunFolder, info: DatasetInfo, data_dir: Path | None
) -> dict[str, Any]:
    """Evaluates, reports and exports what was trained; returns the report."""
    target_model = TargetModel(best_classifier(config, run, info), config.evaluation.batch_size)
    test = load_test(config, data_dir, config.evaluation.limit)
    measured = measure(config, target_model, test)
    if config.evaluation.deployment:
        count = config.evaluation.deployment
        AttackedImages.of(test.images, measured.robustness, count).save(run.attacked)
    report = write_report(config, info, measured, run, run.path, config.name)
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
    "device_training_settings",
    "evaluate",
    "evaluate_again",
    "export_run",
    "load_config",
    "load_run_config",
    "load_test",
    "make_report",
    "measure",
    "run_all",
    "train",
    "write_report",
]
