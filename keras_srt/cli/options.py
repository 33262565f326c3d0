"""Options that several commands share, and the loading of the config that they choose."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from keras_srt.core.errors import UserError
from keras_srt.core.shell import format_command

if TYPE_CHECKING:
    from keras_srt.config.schema import Config
    from keras_srt.foreign.model_options import ModelOptions

_CONFIG_HELP = "a JSON file, or a name in configs/ (cifar_pixel.json)"


def add_config_options(parser: argparse.ArgumentParser, *, positional: bool = True) -> None:
    """Add the options that choose a config and its dataset.

    Args:
        parser: The parser of a command.
        positional: Whether the config is required, and may be given without `--config`.
    """
    config = parser.add_mutually_exclusive_group(required=positional)
    config.add_argument("--config", help="the same" if positional else _CONFIG_HELP)
    if positional:  # the help lists it before all options
        config.add_argument("config", nargs="?", default=argparse.SUPPRESS, help=_CONFIG_HELP)
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


def add_foreign(parser: argparse._ActionsContainer) -> None:
    """Add the options for third-party models."""
    parser.add_argument(
        "--foreign",
        action="store_true",
        help="run a SavedModel with any operations: it may read and write files",
    )
    parser.add_argument(
        "--input-range",
        type=_parse_range,
        metavar="LOW,HIGH",
        help="the values of black and white that the model expects, as 0,255; default: what its "
        "layers tell",
    )
    parser.add_argument(
        "--outputs",
        choices=("logits", "probabilities"),
        help="what the model outputs; default: what its layers tell",
    )


def _parse_range(text: str) -> tuple[float, float]:
    """Parse `--input-range`, also for `--input-range=-1,1`."""
    low, high = map(float, text.split(","))  # argparse reports a ValueError
    return low, high


_parse_range.__name__ = "two numbers as 0,255"  # for argparse's message


def add_labels(parser: argparse._ActionsContainer) -> None:
    """Add the option for the class names of third-party models."""
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="class names, one a line, of a model without them; default: 0, 1, 2, …",
    )


def check_undeclared(options: argparse.Namespace, allowed: str) -> None:
    """Refuse options that declare something about a model, where no such model is given.

    Args:
        options: The parsed options.
        allowed: What they are for, as "--model PATH".

    Raises:
        UserError: One of them is given.
    """
    for name in ("input_range", "outputs", "labels"):
        if getattr(options, name, None) is not None:
            raise UserError(f"--{name.replace('_', '-')}: only with {allowed}")


def model_options(options: argparse.Namespace) -> ModelOptions:
    """Return what the options of `add_foreign` declare about a model."""
    from keras_srt.foreign.model_options import ModelOptions

    return ModelOptions(options.input_range, options.outputs, options.foreign)


def load_config(options: argparse.Namespace) -> Config:
    """Load the config that the options choose."""
    from keras_srt.pipeline import configs

    return configs.load_config(options.config, options.variant, options.set)


def resume_command() -> str:
    """Return the command line of this process with `--resume`."""
    return format_command([*(word for word in sys.argv if word != "--resume"), "--resume"])
