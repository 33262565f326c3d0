"""Options that several commands share, and the loading of the config that they choose."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from keras_srt.core.shell import format_command

if TYPE_CHECKING:
    from keras_srt.config.schema import Config

_CONFIG_HELP = "a JSON file, or a name in configs/ (cifar_pixel.json)"


def add_config_options(parser: argparse.ArgumentParser, *, positional: bool = True) -> None:
    """Add the options that choose a config and its dataset.

    Args:
        parser: The parser of a command.
        positional: Whether the config is required, and may be given without `--config`.
    """
    config = parser.add_mutually_exclusive_group(required=positional)
    config.add_argument("--config", help=_CONFIG_HELP)
    if positional:
        config.add_argument("config", nargs="?", default=argparse.SUPPRESS, help="the same")
    parser.add_argument("--variant", help="a variant of the config, such as smoke, quick or record")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a setting, as training.epochs=3; may be repeated",
    )
    add_data_dir(parser)


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Add the option for the folder of prepared datasets."""
    parser.add_argument("--data-dir", type=Path, help="folder of prepared datasets")


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Add the option that hides progress; `main` reads it."""
    parser.add_argument(
        "--quiet", action="store_true", help="print only results, warnings and errors"
    )


def add_foreign(parser: argparse.ArgumentParser) -> None:
    """Add the option that allows any SavedModel."""
    parser.add_argument(
        "--foreign",
        action="store_true",
        help="run a SavedModel with any operations: it may read and write files",
    )


def load_config(options: argparse.Namespace) -> Config:
    """Load the config that the options choose."""
    from keras_srt.pipeline import configs

    return configs.load_config(options.config, options.variant, options.set)


def resume_command() -> str:
    """Return the command line of this process with `--resume`."""
    return format_command([*(word for word in sys.argv if word != "--resume"), "--resume"])
