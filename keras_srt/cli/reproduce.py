"""`keras-srt reproduce`: reproduce the patent's tables and figures."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.validation import unknown_name_message

_DEFAULT_RUNS, _DEFAULT_OUTPUT = Path("runs/reproduce"), Path("reproduced")


HELP = "Reproduce the patent's tables and figures: our results, the patent's, the difference."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "targets",
        nargs="+",
        metavar="TARGET",
        help="table1 … table6, figure6, figure7, figure8; beyond the patent: figure8_few, budgets, "
        "composite, labels, autoattack",
    )
    parser.add_argument("--dataset", help="mnist or cifar10 (default: all that a target has)")
    parser.add_argument("--scale", default="quick", help="smoke, quick (default), cpu or full")
    parser.add_argument(
        "--reading", default="patent", help="of λ and RT: patent (default) or code (the authors')"
    )
    parser.add_argument("--data-dir", type=Path, help="folder of prepared datasets")
    parser.add_argument(
        "--runs", type=Path, default=_DEFAULT_RUNS, help="trained models; default: runs/reproduce"
    )
    parser.add_argument(
        "--output", type=Path, default=_DEFAULT_OUTPUT, help="results; default: reproduced"
    )
    parser.add_argument("--seeds", type=int, default=1, help="of each model (default: 1)")
    parser.add_argument("--limit", type=int, help="test images of an attack, the first ones")
    parser.add_argument(
        "--no-train", action="store_true", help="use only trained models; others are 'not run'"
    )


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from keras_srt.reproduce.readings import READINGS
    from keras_srt.reproduce.specs import SCALES, Target
    from keras_srt.reproduce.targets import TARGETS, datasets_of, make_target

    _check_names(options, TARGETS, SCALES, READINGS)
    for name, value in (("--seeds", options.seeds), ("--limit", options.limit)):
        if value is not None and value < 1:
            raise UserError(f"{name}: got {value}; allowed: a whole number of at least 1")
    targets: list[Target] = []
    for name in dict.fromkeys(options.targets):
        datasets = datasets_of(name)
        if options.dataset is not None and options.dataset not in datasets:
            raise UserError(
                f"--dataset: got {options.dataset!r} with {name}; allowed: {' or '.join(datasets)}"
            )
        chosen = datasets if options.dataset is None else (options.dataset,)
        targets += [
            make_target(name, dataset, options.scale, options.reading) for dataset in chosen
        ]
    # Here, because it takes a second.
    from keras_srt.reproduce.job import Request, reproduce

    reproduce(
        Request(
            tuple(targets),
            options.runs,
            options.output,
            options.data_dir,
            options.seeds,
            options.limit,
            train=not options.no_train,
        )
    )


def _check_names(
    options: argparse.Namespace,
    targets: tuple[str, ...],
    scales: tuple[str, ...],
    readings: tuple[str, ...],
) -> None:
    problems = [
        unknown_name_message("TARGET", name, targets)
        for name in options.targets
        if name not in targets
    ]
    if options.scale not in scales:
        problems.append(unknown_name_message("--scale", options.scale, scales))
    if options.reading not in readings:
        problems.append(unknown_name_message("--reading", options.reading, readings))
    if problems:
        raise InvalidSettings(problems)


def resume_command(options: argparse.Namespace) -> str:
    """Return the command line that continues this command."""
    words = ["keras-srt", "reproduce", *options.targets, "--scale", options.scale]
    for name in ("dataset", "data_dir", "limit"):
        value = getattr(options, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    defaults = {"reading": "patent", "runs": _DEFAULT_RUNS, "output": _DEFAULT_OUTPUT, "seeds": 1}
    for name, default in defaults.items():
        if getattr(options, name) != default:
            words += [f"--{name}", str(getattr(options, name))]
    return shlex.join(words + (["--no-train"] if options.no_train else []))
