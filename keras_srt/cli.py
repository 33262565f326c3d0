"""The command line: `keras-srt train | evaluate | tune | export | predict | serve | …`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_srt import completion
from keras_srt.checks import InvalidSettings, UserError
from keras_srt.own_images import command as own_images
from keras_srt.reproduce import command as reproduce
from keras_srt.tuning import command as tuning

EXIT_DONE, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130
EXIT_PIPE = 141  # what a shell says of a program that SIGPIPE ended
_TARGETS = ("random", "next", "least_likely")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: of the command line; by default those of the process.

    Returns:
        The exit code: 0 done, 1 done but for some images, 2 bad input (one line for each
        problem on stderr), 130 interrupted, 141 nobody reads the output any more.
    """
    options = _parser().parse_args(arguments)
    try:
        code = options.command(options)
        sys.stdout.flush()
        return EXIT_DONE if code is None else code
    except (InvalidSettings, UserError) as error:
        print(f"error: {error}".replace("\n", "\nerror: "), file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # As in `keras-srt predict … | head`; Python would complain again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except Exception as error:
        # Named here, because importing the module takes TensorFlow along.
        if type(error).__name__ != "Interrupted":
            raise
        print(error, file=sys.stderr)
        return EXIT_INTERRUPTED


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
    text = "Look at a folder of images and write a config to start from."
    own_images.add_init_options(add("init", own_images.run_init, text))
    _add_data_command(add("data", None, "Look into the images of a config."))
    train = argparse.ArgumentParser(add_help=False)
    train.add_argument("--run-dir", type=Path, help="run folder (default: runs/NAME)")
    train.add_argument("--resume", action="store_true", help="go on after an interruption")
    train.add_argument(
        "--strategy",
        choices=("one_device", "mirrored", "multi_worker"),
        help="devices to train on, instead of the config's: all GPUs of this machine (mirrored), "
        "or the cluster of TF_CONFIG (multi_worker)",
    )
    for name, command, text, parents in (
        ("train", _train, "Train, evaluate, report and export.", [config, train]),
        ("info", _info, "Print a config, its data, model and cost without training.", [config]),
    ):
        added = commands.add_parser(name, help=text, description=text, parents=parents)
        added.set_defaults(command=command)

    evaluate = commands.add_parser(
        "evaluate",
        help="Attack a finished run, or a model from elsewhere.",
        parents=[_config_options(required=False)],
    )
    evaluate.set_defaults(command=_evaluate)
    _add_evaluate_options(evaluate)
    text = "Put finished runs side by side, and say which differences are more than chance."
    _add_compare_options(add("compare", _compare, text))
    text = "Search settings with keras-tuner, by robust validation accuracy."
    tune = commands.add_parser("tune", help=text, description=text, parents=[config])
    tune.set_defaults(command=_tune)
    tuning.add_options(tune)
    _add_export_options(add("export", _export, "Publish a finished run as SavedModel and TFLite."))
    _add_predict_options(add("predict", _predict, "Classify images, and file them by class."))
    _add_serve_options(add("serve", _serve, "Serve models by TF Serving's REST protocol."))
    text = "The paper's tables and figures: ours, the paper's, the difference."
    reproduce.add_options(add("reproduce", reproduce.run, text))
    text = "Print a script that completes commands, options and files in a shell."
    shells = add("completion", _completion, text)
    shells.add_argument("shell", choices=completion.SHELLS, help="of the script")
    return parser


def _add_data_command(data: argparse.ArgumentParser) -> None:
    actions = data.add_subparsers(required=True, metavar="ACTION")
    text = "Open every image of a config with own images and say what is wrong."
    check = actions.add_parser(
        "check", help=text, description=text, parents=[_config_options(required=None)]
    )
    check.set_defaults(command=own_images.run_check)
    own_images.add_check_options(check)


def _add_evaluate_options(options: argparse.ArgumentParser) -> None:
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


def _add_compare_options(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN",
        help="run folder, or what `evaluate --report-dir` wrote; all are compared with the first",
    )  # fmt: skip
    options.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="also write comparison.md, comparison.png and comparison.json into this folder",
    )


def _add_export_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("--run", type=Path, required=True, help="folder of a finished run")
    options.add_argument("--version", type=int, help="a free whole number (default: the next)")
    options.add_argument(
        "--keep", type=int, metavar="N", help="then remove the oldest versions beyond N"
    )
    options.add_argument("--data-dir", type=Path, help="where prepared datasets lie")
    options.add_argument(
        "--trainable",
        action="store_true",
        help="also write model_train.tflite, which goes on learning on a device",
    )
    options.add_argument(
        "--trainable-batch",
        type=int,
        nargs=2,
        default=(8, 24),
        metavar=("LABELED", "UNLABELED"),
        help="images of a step on the device (default: 8 24)",
    )


def _add_serve_options(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "--model",
        nargs="+",
        action="extend",
        default=[],
        metavar="DIR",
        help="folders saved_models/NAME (default: all in saved_models); with --backend, names",
    )
    options.add_argument("--host", default="127.0.0.1", help="default: this machine alone")
    options.add_argument("--port", type=int, default=8501, help="default: 8501; 0: any free one")
    options.add_argument(
        "--backend", metavar="URL", help="be a gateway for a TF Serving, as http://host:8501"
    )
    options.add_argument("--max-body-mb", type=float, default=32, help="of a request; default: 32")
    options.add_argument(
        "--max-queue", type=int, default=256, help="requests at a time; default: 256"
    )
    options.add_argument(
        "--timeout", type=float, default=30, help="seconds for a request; default: 30"
    )


def _add_predict_options(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="PNG or JPEG files, folders with such files, quoted globs ('photos/**/*.png')",
    )
    options.add_argument(
        "--model", type=Path, metavar="DIR", help="a SavedModel: saved_models/NAME[/VERSION]"
    )
    options.add_argument(
        "--foreign",
        action="store_true",
        help="run a SavedModel that `keras-srt export` didn't write: it may read and write files",
    )
    options.add_argument("--tflite", type=Path, metavar="FILE", help="a .tflite file")
    options.add_argument(
        "--server",
        metavar="URL",
        help="http://host:8501[/v1/models/NAME], of TF Serving or `keras-srt serve`",
    )
    options.add_argument("--grpc", action="store_true", help="the server speaks gRPC (host:8500)")
    options.add_argument("--name", help="the model's name on the server")
    options.add_argument("--top", type=int, default=3, metavar="K", help="classes to show (3)")
    options.add_argument("--json", action="store_true", help="print a JSON object for each image")
    options.add_argument(
        "--sort-into", type=Path, metavar="DIR", help="file the images into DIR/CLASS/"
    )
    filing = options.add_mutually_exclusive_group()
    filing.add_argument("--link", action="store_true", help="by symbolic links (default)")
    filing.add_argument("--copy", action="store_true", help="by copies")


def _config_options(required: bool | None) -> argparse.ArgumentParser:
    """Options that choose a config; None for one that is named without `--config`."""
    options = argparse.ArgumentParser(add_help=False)
    text = "a JSON file, or a name in configs/ (cifar_pixel.json)"
    if required is None:
        options.add_argument("config", metavar="CONFIG", help=text)
    else:
        options.add_argument("--config", required=required, help=text)
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
    with _sigterm_as_ctrl_c():
        experiment.run_all(
            config, run, options.data_dir, options.resume, how_to_resume, options.strategy
        )


def _tune(options: argparse.Namespace) -> None:
    with _sigterm_as_ctrl_c():
        tuning.run(options)


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Clusters and `kill` end a training by SIGTERM: its state is saved then, too."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python sets signal handlers in the main thread alone
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _info(options: argparse.Namespace) -> None:
    config = _load_config(options)
    from keras_srt import experiment, plan

    print(config.to_json())
    info = config.data.dataset.info(options.data_dir)
    planned = plan.make_plan(config, info)
    print(
        f"\ndataset   {info.title}: {info.num_train:,} training images ({planned.num_labeled:,} "
        f"labeled, {planned.num_unlabeled:,} unlabeled, {planned.num_validation:,} validation), "
        f"{info.num_test:,} test images of {' x '.join(map(str, info.input_shape))}"
    )
    for key, value in config.neighborhood.describe().items():
        print(f"{key:<9} {value}")
    model = experiment.build_model(config, info, planned)
    model.classifier.summary()
    print(plan.estimate(planned, plan.time_step(model, planned, info)))


def _evaluate(options: argparse.Namespace) -> None:
    _check_evaluate_options(options)
    from keras_srt import experiment, report
    from keras_srt.runs import RunFolder, write_json

    run = None if options.run is None else RunFolder(options.run)
    config = _load_config(options) if run is None else experiment.load_run_config(run)
    _check_foreign(options)
    changes = {key: getattr(options, key) for key in ("limit", "masking", "curves")}
    changes = {key: value for key, value in changes.items() if value is not None}
    attacks = _choose_attacks(config, options.attacks, options.target)
    evaluation = dataclasses.replace(config.evaluation, attacks=attacks, **changes)
    config = dataclasses.replace(config, evaluation=evaluation)
    if options.report_dir is not None:
        options.report_dir.mkdir(exist_ok=True)
    made = experiment.evaluate_again(
        config, run, options.model, options.data_dir, options.report_dir
    )
    print(report.terminal_table(made, shutil.get_terminal_size((100, 24)).columns))
    if options.output is not None:
        write_json(options.output, made)


def _compare(options: argparse.Namespace) -> None:
    from keras_srt import comparison, report
    from keras_srt.runs import write_json

    made = comparison.compare(options.runs)
    lines = report.comparison_lines(made)
    print("\n".join(lines))
    if options.output is None:
        return
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        text = "\n".join(["# Comparison", "", *lines, ""])
        (options.output / "comparison.md").write_text(text, encoding="utf-8")
        report.write_comparison_figure(made, options.output / "comparison.png")
        write_json(options.output / "comparison.json", made)
    except OSError as error:
        raise UserError(f"--output {options.output}: can't be written ({error})") from error


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
        from keras_srt.untrusted import check_savedmodel

        check_savedmodel(folder)


def _check_report_dir(folder: Path | None) -> None:
    if folder is None:
        return
    if not folder.resolve().parent.is_dir():
        raise UserError(f"--report-dir {folder}: the folder above it doesn't exist; make it first")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--report-dir {folder}: is not an empty folder; give another one")


def _export(options: argparse.Namespace) -> None:
    if options.keep is not None and options.keep < 1:
        raise UserError(f"--keep: got {options.keep}; allowed: a whole number of at least 1")
    from keras_srt import experiment
    from keras_srt.runs import RunFolder

    run = RunFolder(options.run)
    config = experiment.load_run_config(run)
    trainable = None
    if options.trainable:
        trainable = experiment.device_training(config, *options.trainable_batch)
    exported = experiment.export_run(
        config, run, options.data_dir, options.version, options.keep, trainable
    )
    print(experiment.describe_export(exported), flush=True)
    experiment.add_deployment(config, run, exported, options.data_dir)


def _predict(options: argparse.Namespace) -> int:
    _check_predict_options(options)
    from keras_srt import predict

    predict.check_sources(options.images, options.sort_into)
    if options.model is not None:
        classifier: Any = predict.open_savedmodel(options.model, options.foreign)
    elif options.tflite is not None:
        classifier = predict.open_tflite(options.tflite)
    else:
        classifier = predict.open_server(options.server, options.name, options.grpc)
    sorter = None
    if options.sort_into is not None:
        sorter = predict.Sorter(options.sort_into, options.copy)
    failed = predict.predict(options.images, classifier, options.top, options.json, sorter)
    return EXIT_FAILED if failed else EXIT_DONE


def _serve(options: argparse.Namespace) -> None:
    for name, value, low, high in (
        ("--port", options.port, 0, 65535),
        ("--max-body-mb", options.max_body_mb, 0.001, 1024),
        ("--max-queue", options.max_queue, 1, 10_000),
        ("--timeout", options.timeout, 0.1, 3600),
    ):
        if not low <= value <= high:
            raise UserError(f"{name}: got {value:g}; allowed: a number from {low:g} to {high:g}")
    from keras_srt.serving.limits import MEGABYTE, Limits
    from keras_srt.serving.local import find_models
    from keras_srt.serving.server import serve

    models = options.model
    if not models and options.backend is None:
        models = find_models(Path("saved_models"))
    limits = Limits(
        max_body=int(options.max_body_mb * MEGABYTE),
        max_queue=options.max_queue,
        timeout=options.timeout,
    )
    serve(models, options.host, options.port, limits, options.backend)


def _completion(options: argparse.Namespace) -> None:
    print(completion.script(_parser(), options.shell))


def _check_predict_options(options: argparse.Namespace) -> None:
    given = [options.model, options.tflite, options.server]
    if sum(value is not None for value in given) != 1:
        raise UserError("predict: give one of --model DIR, --tflite FILE and --server URL")
    if options.top < 1:
        raise UserError(f"--top: got {options.top}; allowed: a whole number of at least 1")
    if options.server is None and (options.grpc or options.name is not None):
        raise UserError("--grpc, --name: only with --server URL")
    if options.sort_into is None and (options.link or options.copy):
        raise UserError("--link, --copy: only with --sort-into DIR")


def _load_config(options: argparse.Namespace) -> Any:
    from keras_srt import experiment

    return experiment.load_config(options.config, options.variant, options.set)


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
