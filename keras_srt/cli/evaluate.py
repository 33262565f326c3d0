"""`keras-srt evaluate`."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from pathlib import Path
from typing import Any

from keras_srt.core.errors import InvalidSettings, UserError

_TARGETS = ("random", "next", "least_likely")


def add_options(options: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    options.add_argument("--run", type=Path, help="folder of a finished run")
    options.add_argument(
        "--model",
        help="SavedModel folder, .keras file, .tflite file, or a server's "
        "http://host:port/v1/models/NAME (with --config for the data)",
    )
    options.add_argument(
        "--foreign",
        action="store_true",
        help="run a SavedModel that `keras-srt export` didn't write: it may read and write files",
    )
    options.add_argument(
        "--attacks", help="names, separated by commas (pgd,gridadv or pgd@0.1); default: all"
    )
    options.add_argument(
        "--target", help="make the attacks targeted: random, next, least_likely or a class id"
    )
    options.add_argument("--limit", type=int, help="test images, the first ones")
    options.add_argument(
        "--masking", type=int, metavar="N", help="look for gradient masking on N images; 0: don't"
    )
    options.add_argument(
        "--curves",
        type=int,
        metavar="N",
        help="measure the accuracy against eps, angle and translation on N images; 0: don't",
    )
    options.add_argument("--output", type=Path, help="also write the report as JSON to this file")
    options.add_argument(
        "--report-dir",
        type=Path,
        help="also write all reports into this folder, a new or an empty one: report.html, "
        "figures, MODEL_CARD.md, report.json, outcomes.npz",
    )


def run(options: argparse.Namespace) -> None:
    """Attacks a run or a model, and prints and writes the reports."""
    _check_evaluate_options(options)
    from keras_srt import report
    from keras_srt.pipeline import run as pipeline
    from keras_srt.pipeline.run_folder import RunFolder, write_json

    run = None if options.run is None else RunFolder(options.run)
    config = (
        pipeline.load_config(options.config, options.variant, options.set)
        if run is None
        else pipeline.load_run_config(run)
    )
    _check_foreign(options)
    changes = {key: getattr(options, key) for key in ("limit", "masking", "curves")}
    changes = {key: value for key, value in changes.items() if value is not None}
    attacks = _choose_attacks(config, options.attacks, options.target)
    evaluation = dataclasses.replace(config.evaluation, attacks=attacks, **changes)
    config = dataclasses.replace(config, evaluation=evaluation)
    if options.report_dir is not None:
        options.report_dir.mkdir(exist_ok=True)
    made = pipeline.evaluate_again(config, run, options.model, options.data_dir, options.report_dir)
    print(report.terminal_table(made, shutil.get_terminal_size((100, 24)).columns))
    if options.output is not None:
        write_json(options.output, made)


def _check_evaluate_options(options: argparse.Namespace) -> None:
    if (options.run is None) == (options.model is None):
        raise UserError("evaluate: give one of --run RUN and --model MODEL (with --config)")
    for name, value, least in (
        ("limit", options.limit, 1),
        ("masking", options.masking, 0),
        ("curves", options.curves, 0),
    ):
        if value is not None and value < least:
            raise UserError(f"--{name}: got {value}; allowed: a whole number of at least {least}")
    target = options.target
    if target is not None and not target.isdecimal() and target not in _TARGETS:
        allowed = f"{', '.join(_TARGETS)} or a class id"
        raise UserError(f"--target: got {target!r}; allowed: {allowed}")
    if options.output is not None and not options.output.resolve().parent.is_dir():
        raise UserError(f"--output {options.output}: its folder doesn't exist; make it first")
    _check_report_dir(options.report_dir)
    if options.run is None and options.config is None:
        raise UserError("evaluate --model: give --config NAME, for the dataset and the attacks")


def _check_foreign(options: argparse.Namespace) -> None:
    if options.model is None or options.foreign:
        return
    folder = Path(options.model)
    if (folder / "saved_model.pb").is_file():
        from keras_srt.core.model_safety import check_savedmodel

        check_savedmodel(folder)


def _check_report_dir(folder: Path | None) -> None:
    if folder is None:
        return
    if not folder.resolve().parent.is_dir():
        raise UserError(f"--report-dir {folder}: the folder above it doesn't exist; make it first")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--report-dir {folder}: is not an empty folder; give another one")


def _choose_attacks(config: Any, names: str | None, target: str | None) -> tuple[Any, ...]:
    """The config's attacks, or those named: as the config sets them, else by defaults."""
    from keras_srt.attacks import ATTACKS

    chosen = list(config.evaluation.attacks) if names is None else []
    for name in names.split(",") if names is not None else ():
        same = [attack for attack in config.evaluation.attacks if attack.name == name]
        try:
            chosen += same or [ATTACKS.build({"name": name})]
        except InvalidSettings as error:
            hint = f"; give {name}@0.1, say" if "epsilon: missing" in str(error) else ""
            raise UserError(f"--attacks {name}: {error}{hint}") from error
    if target is None:
        return tuple(chosen)
    wanted = int(target) if target.isdecimal() else target
    return tuple(dataclasses.replace(attack, target=wanted) for attack in chosen)
