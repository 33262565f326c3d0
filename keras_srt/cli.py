"""The command line: `keras-srt train | evaluate | export | info`, and `train.py`."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_srt.checks import InvalidSettings, UserError

EXIT_DONE, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: of the command line; by default those of the process.

    Returns:
        The exit code: 0 done, 2 bad input (one line for each problem on stderr), 130
        interrupted.
    """
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except (InvalidSettings, UserError) as error:
        print(f"error: {error}".replace("\n", "\nerror: "), file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        # Named here, because importing the module takes TensorFlow along.
        if type(error).__name__ != "Interrupted":
            raise
        print(error, file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="keras-srt", description="Train image classifiers that stay right under tampering."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(command=command)
        return added

    config = _config_options(required=True)
    train = argparse.ArgumentParser(add_help=False)
    train.add_argument("--run-dir", type=Path, help="run folder (default: runs/NAME)")
    train.add_argument("--resume", action="store_true", help="go on after an interruption")
    for name, command, text, parents in (
        ("train", _train, "Train, evaluate, report and export.", [config, train]),
        ("info", _info, "Print a config, its data, model and cost without training.", [config]),
    ):
        added = commands.add_parser(name, help=text, description=text, parents=parents)
        added.set_defaults(command=command)

    evaluate = commands.add_parser(
        "evaluate",
        help="Attack a finished run, a SavedModel or a .keras file.",
        parents=[_config_options(required=False)],
    )
    evaluate.set_defaults(command=_evaluate)
    evaluate.add_argument("--run", type=Path, help="folder of a finished run")
    evaluate.add_argument(
        "--model", type=Path, help="SavedModel folder or .keras file (with --config for the data)"
    )
    evaluate.add_argument(
        "--attacks", help="names, separated by commas (pgd,gridadv or pgd@0.1); default: all"
    )
    evaluate.add_argument("--limit", type=int, help="test images, the first ones")
    evaluate.add_argument("--output", type=Path, help="also write the report as JSON to this file")

    exported = add("export", _export, "Publish a finished run as SavedModel and TFLite.")
    exported.add_argument("--run", type=Path, required=True, help="folder of a finished run")
    exported.add_argument("--version", type=int, help="a free whole number (default: the next)")
    exported.add_argument("--data-dir", type=Path, help="where prepared datasets lie")
    return parser


def _config_options(required: bool) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--config", required=required, help="a JSON file, or a name in configs/ (cifar_pixel.json)"
    )
    options.add_argument("--variant", help="a variant of the config: smoke, quick")
    options.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a setting, as training.epochs=3; may be repeated",
    )
    options.add_argument("--data-dir", type=Path, help="where prepared datasets lie")
    return options


def _train(options: argparse.Namespace) -> None:
    config = _load_config(options)
    from keras_srt import experiment
    from keras_srt.runs import RunFolder

    run = RunFolder(options.run_dir if options.run_dir is not None else Path("runs") / config.name)
    again = [argument for argument in sys.argv if argument != "--resume"]
    how_to_resume = shlex.join(["python", *again, "--resume"])
    experiment.run_all(config, run, options.data_dir, options.resume, how_to_resume)


def _info(options: argparse.Namespace) -> None:
    config = _load_config(options)
    from keras_srt import experiment, plan

    print(config.to_json())
    info = config.data.dataset.info(options.data_dir)
    planned = plan.make_plan(config, info)
    print(
        f"\ndataset   {info.title}: {info.num_train:,} training images ({config.data.labeled:,} "
        f"labeled, {planned.num_unlabeled:,} unlabeled, {config.data.validation:,} validation), "
        f"{info.num_test:,} test images of {' x '.join(map(str, info.input_shape))}"
    )
    for key, value in config.neighborhood.describe().items():
        print(f"{key:<9} {value}")
    model = experiment.build_model(config, info, planned)
    model.classifier.summary()
    print(plan.estimate(planned, plan.time_step(model, planned, info)))


def _evaluate(options: argparse.Namespace) -> None:
    if (options.run is None) == (options.model is None):
        raise UserError("evaluate: give one of --run RUN and --model FILE (with --config)")
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit: got {options.limit}; allowed: a whole number of at least 1")
    if options.output is not None and not options.output.resolve().parent.is_dir():
        raise UserError(f"--output {options.output}: its folder doesn't exist; make it first")
    if options.run is None and options.config is None:
        raise UserError("evaluate --model: give --config NAME, for the dataset and the attacks")
    from keras_srt import experiment, foreign, report
    from keras_srt.runs import RunFolder, write_json

    if options.run is not None:
        run = RunFolder(options.run)
        config = experiment.load_run_config(run)
        info = config.data.dataset.info(options.data_dir)
        classifier: Any = experiment.best_classifier(config, run, info)
    else:
        run, config = None, _load_config(options)
        info = config.data.dataset.info(options.data_dir)
        classifier = foreign.load_classifier(options.model, info)
    attacks = _choose_attacks(config, options.attacks)
    limit = options.limit if options.limit is not None else config.evaluation.limit
    test = experiment.load_test(config, options.data_dir, limit)
    robustness = experiment.evaluate(config, classifier, test, attacks)
    name = config.name if run is not None else str(options.model)
    made = experiment.make_report(config, info, robustness, run, name)
    print(report.terminal_table(made))
    if options.output is not None:
        write_json(options.output, made)


def _export(options: argparse.Namespace) -> None:
    from keras_srt import experiment
    from keras_srt.runs import RunFolder

    run = RunFolder(options.run)
    config = experiment.load_run_config(run)
    exported = experiment.export_run(config, run, options.data_dir, options.version)
    print(experiment.describe_export(exported))


def _load_config(options: argparse.Namespace) -> Any:
    from keras_srt import experiment

    return experiment.load_config(options.config, options.variant, options.set)


def _choose_attacks(config: Any, names: str | None) -> list[Any]:
    """The config's attacks, or those named: as the config sets them, else by defaults."""
    if names is None:
        return list(config.evaluation.attacks)
    from keras_srt.attacks import ATTACKS

    chosen = []
    for name in names.split(","):
        same = [attack for attack in config.evaluation.attacks if attack.name == name]
        chosen += same or [ATTACKS.build({"name": name})]
    return chosen
