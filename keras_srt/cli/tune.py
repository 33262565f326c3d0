"""`keras-srt tune`: its options, and what they ask for."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from keras_srt.core.shell import format_command
from keras_srt.core.tensorflow import load_tensorflow


def add_options(options: argparse.ArgumentParser) -> None:
    """Adds the options of the command, beside those of a config, to its parser."""
    options.add_argument(
        "--run-dir", type=Path, help="folder of the search (default: runs/NAME-tune)"
    )
    options.add_argument("--resume", action="store_true", help="go on after an interruption")


def run(options: argparse.Namespace) -> None:
    """Does what the options ask for.

    Raises:
        InvalidSettings, UserError: it can't be done.
    """
    from keras_srt.pipeline import run as pipeline
    from keras_srt.tuning.trial_config import check_space, with_length

    config = with_length(pipeline.load_config(options.config, options.variant, options.set))
    # Before the seconds that importing TensorFlow and keras-tuner takes.
    check_space(config, pipeline.COMPONENTS)
    load_tensorflow()  # which keras-tuner imports
    from keras_srt.tuning.study import tune

    folder = options.run_dir
    again = [argument for argument in sys.argv if argument != "--resume"]
    tune(
        config,
        Path("runs") / f"{config.name}-tune" if folder is None else folder,
        options.data_dir,
        options.resume,
        format_command([*again, "--resume"]),
    )
