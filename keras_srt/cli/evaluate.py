"""`keras-srt evaluate`: attack a finished run or an external model."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from keras_srt.cli import options as shared
from keras_srt.cli.output import show
from keras_srt.core.errors import InvalidSettings, UserError

if TYPE_CHECKING:
    from keras_srt.attacks import Attack
    from keras_srt.config.schema import Config

HELP = "Attack a finished run or an external model."
# Options that replace a setting of the section `evaluation`.
_EVALUATION_SETTINGS = (
    "limit",
    "masking",
    "curves",
    "corruptions",
    "smoothing",
    "sigma",
    "precision",
)
_TARGETS = ("random", "next", "least_likely")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    shared.add_config_options(parser, positional=False)
    shared.add_quiet(parser)
    parser.add_argument("--run", type=Path, help="folder of a finished run")
    parser.add_argument(
        "--model",
        help="SavedModel folder, .keras file, .tflite file, or a server's "
        "http://host:port/v1/models/NAME (with --config for the data)",
    )
    shared.add_foreign(parser)
    parser.add_argument(
        "--attacks", help="names, separated by commas (pgd,gridadv or pgd@0.1); default: all"
    )
    parser.add_argument(
        "--target", help="make the attacks targeted: random, next, least_likely or a class id"
    )
    _add_measurements(parser)
    parser.add_argument("--output", type=Path, help="also write the report as JSON to this file")
    parser.add_argument(
        "--report-dir",
        type=Path,
        help="also write all reports into this folder, a new or an empty one: report.html, "
        "figures, MODEL_CARD.md, report.json, outcomes.npz",
    )


def _add_measurements(parser: argparse.ArgumentParser) -> None:
    """Add the options of what is measured, and on how many images."""
    parser.add_argument("--limit", type=int, help="test images, the first ones")
    parser.add_argument(
        "--masking", type=int, metavar="N", help="look for gradient masking on N images; 0: don't"
    )
    parser.add_argument(
        "--curves",
        type=int,
        metavar="N",
        help="measure the accuracy against eps, angle and translation on N images; 0: don't",
    )
    parser.add_argument(
        "--corruptions",
        type=int,
        metavar="N",
        help="measure the accuracy on N images under noise, blur, lost pixels and other "
        "corruptions; 0: don't",
    )
    parser.add_argument(
        "--smoothing",
        type=int,
        metavar="N",
        help="certify N images by randomized smoothing (L2); 0: don't",
    )
    parser.add_argument("--sigma", type=float, help="sigma of the smoothing noise; default: 0.25")
    parser.add_argument(
        "--precision",
        choices=("auto", "float32"),
        help="auto queries transforms in bfloat16 where the processor is fast at it, with the same "
        "verdicts; default: auto",
    )


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    _check_options(options)
    from keras_srt import report
    from keras_srt.core.files import write_json
    from keras_srt.pipeline import reevaluate
    from keras_srt.pipeline.configs import load_run_config
    from keras_srt.pipeline.context import RunContext
    from keras_srt.pipeline.run_folder import RunFolder
    from keras_srt.pipeline.source import CachedDataset

    folder = None if options.run is None else RunFolder(options.run)
    config = shared.load_config(options) if folder is None else load_run_config(folder)
    config = _with_options(config, options)
    if options.report_dir is not None:
        options.report_dir.mkdir(exist_ok=True)
    if folder is None:
        source = CachedDataset(config.data.dataset, options.data_dir)
        made = reevaluate.evaluate_external(
            config, source, options.model, options.report_dir, shared.model_options(options)
        )
    else:
        context = RunContext.open(config, folder, options.data_dir)
        made = reevaluate.evaluate_run(context, options.report_dir)
    show(report.terminal_table(made, shutil.get_terminal_size((100, 24)).columns))
    if options.output is not None:
        write_json(options.output, made)


def _with_options(config: Config, options: argparse.Namespace) -> Config:
    """Return the config with the evaluation that the options choose."""
    changes = {key: getattr(options, key) for key in _EVALUATION_SETTINGS}
    changes = {key: value for key, value in changes.items() if value is not None}
    attacks = _choose_attacks(config, options.attacks, options.target)
    evaluation = dataclasses.replace(config.evaluation, attacks=attacks, **changes)
    return dataclasses.replace(config, evaluation=evaluation)


def _check_options(options: argparse.Namespace) -> None:
    if (options.run is None) == (options.model is None):
        raise UserError("evaluate: give one of --run RUN and --model MODEL (with --config)")
    if options.model is None:
        shared.check_undeclared(options, "--model MODEL")
    for name in ("limit", "masking", "curves", "corruptions", "smoothing"):
        value, least = getattr(options, name), int(name == "limit")
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


def _check_report_dir(folder: Path | None) -> None:
    if folder is None:
        return
    if not folder.resolve().parent.is_dir():
        raise UserError(f"--report-dir {folder}: the folder above it doesn't exist; make it first")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--report-dir {folder}: is not an empty folder; give another one")


def _choose_attacks(config: Config, names: str | None, target: str | None) -> tuple[Attack, ...]:
    """Return the config's attacks, or the named ones, with the config's settings if it has any."""
    from keras_srt.attacks import ATTACKS

    chosen = list(config.evaluation.attacks) if names is None else []
    for name in names.split(",") if names is not None else ():
        same = [attack for attack in config.evaluation.attacks if attack.name == name]
        try:
            chosen += same or [ATTACKS.build({"name": name})]
        except InvalidSettings as error:
            hint = f"; give {name}@0.1, for example" if "epsilon: missing" in str(error) else ""
            raise UserError(f"--attacks {name}: {error}{hint}") from error
    if target is None:
        return tuple(chosen)
    wanted = int(target) if target.isdecimal() else target
    return tuple(dataclasses.replace(attack, target=wanted) for attack in chosen)
