"""`keras-srt tune`: search settings with keras-tuner."""

from __future__ import annotations

import argparse
from pathlib import Path

from keras_srt.cli import options as shared
from keras_srt.cli.signals import signals_as_ctrl_c
from keras_srt.core.tensorflow import load_tensorflow

HELP = "Search settings with keras-tuner, by robust validation accuracy."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    shared.add_config_options(parser)
    shared.add_quiet(parser)
    parser.add_argument(
        "--run-dir", type=Path, help="folder of the search (default: runs/NAME-tune)"
    )
    parser.add_argument("--resume", action="store_true", help="continue an interrupted search")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from keras_srt.pipeline.configs import COMPONENTS
    from keras_srt.tuning.trial_config import check_space, with_length

    config = with_length(shared.load_config(options))
    # Before the seconds that it takes to import TensorFlow and keras-tuner.
    check_space(config, COMPONENTS)
    load_tensorflow()  # before keras-tuner imports it
    from keras_srt.tuning.study import tune

    folder = options.run_dir or Path("runs") / f"{config.name}-tune"
    with signals_as_ctrl_c():
        tune(config, folder, options.data_dir, options.resume)


def resume_command(options: argparse.Namespace) -> str:
    """Return the command line that continues an interrupted search."""
    return shared.resume_command()
