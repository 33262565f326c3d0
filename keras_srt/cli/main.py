"""The command line: `keras-srt train | evaluate | tune | export | predict | serve | …`."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_srt.cli import compare, completion, evaluate, predict, serve
from keras_srt.cli import folders as own_images
from keras_srt.cli import reproduce as reproduce
from keras_srt.cli import tune as tuning
from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.shell import format_command

EXIT_DONE, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130
EXIT_PIPE = 141  # what a shell says of a program that SIGPIPE ended


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

    attack = commands.add_parser(
        "evaluate",
        help="Attack a finished run, or a model from elsewhere.",
        parents=[_config_options(required=False)],
    )
    attack.set_defaults(command=evaluate.run)
    evaluate.add_options(attack)
    text = "Put finished runs side by side, and say which differences are more than chance."
    compare.add_options(add("compare", compare.run, text))
    text = "Search settings with keras-tuner, by robust validation accuracy."
    tune = commands.add_parser("tune", help=text, description=text, parents=[config])
    tune.set_defaults(command=_tune)
    tuning.add_options(tune)
    _add_export_options(add("export", _export, "Publish a finished run as SavedModel and TFLite."))
    predict.add_options(add("predict", predict.run, "Classify images, and file them by class."))
    serve.add_options(add("serve", serve.run, "Serve models by TF Serving's REST protocol."))
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
    from keras_srt.pipeline import run as pipeline
    from keras_srt.pipeline.run_folder import RunFolder

    run = RunFolder(options.run_dir if options.run_dir is not None else Path("runs") / config.name)
    again = [argument for argument in sys.argv if argument != "--resume"]
    how_to_resume = format_command([*again, "--resume"])
    with _sigterm_as_ctrl_c():
        pipeline.run_all(
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
    from keras_srt.pipeline import plan
    from keras_srt.pipeline import run as pipeline

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
    model = pipeline.build_model(config, info, planned)
    model.classifier.summary()
    print(plan.estimate(planned, plan.time_step(model, planned, info)))


def _export(options: argparse.Namespace) -> None:
    if options.keep is not None and options.keep < 1:
        raise UserError(f"--keep: got {options.keep}; allowed: a whole number of at least 1")
    from keras_srt.pipeline import run as pipeline
    from keras_srt.pipeline.run_folder import RunFolder

    run = RunFolder(options.run)
    config = pipeline.load_run_config(run)
    trainable = None
    if options.trainable:
        trainable = pipeline.device_training_settings(config, *options.trainable_batch)
    exported = pipeline.export_run(
        config, run, options.data_dir, options.version, options.keep, trainable
    )
    print(pipeline.describe_export(exported), flush=True)
    pipeline.add_deployment(config, run, exported, options.data_dir)


def _completion(options: argparse.Namespace) -> None:
    print(completion.script(_parser(), options.shell))


def _load_config(options: argparse.Namespace) -> Any:
    from keras_srt.pipeline import run as pipeline

    return pipeline.load_config(options.config, options.variant, options.set)
