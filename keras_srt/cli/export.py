"""`keras-srt export`: publish a finished run as SavedModel and TFLite."""

from __future__ import annotations

import argparse
from pathlib import Path

from keras_srt.cli.options import add_data_dir, add_quiet
from keras_srt.core.errors import UserError

HELP = "Publish a finished run as SavedModel and TFLite."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run")
    parser.add_argument("--version", type=int, help="a free whole number (default: the next)")
    parser.add_argument(
        "--keep", type=int, metavar="N", help="then remove the oldest versions beyond N"
    )
    add_data_dir(parser)
    add_quiet(parser)
    parser.add_argument(
        "--trainable",
        action="store_true",
        help="also write model_train.tflite, which can be trained further on a device",
    )
    parser.add_argument(
        "--trainable-batch",
        type=int,
        nargs=2,
        metavar=("LABELED", "UNLABELED"),
        help="images of a step on the device (default: 8 24; 32 0 for RT)",
    )


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    if options.keep is not None and options.keep < 1:
        raise UserError(f"--keep: got {options.keep}; allowed: a whole number of at least 1")
    from keras_srt.pipeline.configs import load_run_config
    from keras_srt.pipeline.context import RunContext
    from keras_srt.pipeline.publish import device_training_settings, publish
    from keras_srt.pipeline.run_folder import RunFolder

    folder = RunFolder(options.run)
    config = load_run_config(folder)
    trainable = (
        device_training_settings(config, options.trainable_batch) if options.trainable else None
    )
    context = RunContext.open(config, folder, options.data_dir)
    publish(context, options.version, options.keep, trainable)
