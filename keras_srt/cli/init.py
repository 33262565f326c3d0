"""`keras-srt init`: write a config for a folder of images."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_srt.cli.output import show
from keras_srt.core.errors import UserError
from keras_srt.core.formatting import format_duration

if TYPE_CHECKING:
    from keras_srt.data import DatasetInfo, Folder
    from keras_srt.folders.network_choice import Candidate, Choice, Timer
    from keras_srt.folders.starting_config import FolderSummary

HELP = "Look at a folder of images and write a config to start from."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "folder",
        type=Path,
        metavar="DIR",
        help="holds labeled/, unlabeled/ and test/; or train/ and val/ or test/; or one CSV with "
        "the columns path,label; or a folder for each class",
    )
    parser.add_argument(
        "--time",
        type=_seconds,
        default="1h",
        metavar="TIME",
        help="for the whole run on this machine, such as 30m or 2h (default: 1h)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="of the config (default: NAME_OF_DIR.json)"
    )


def _seconds(text: str) -> float:
    """Read a time, such as 90s, 30m or 1.5h."""
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = text[:-1], units.get(text[-1:])
    if unit is None or not number.replace(".", "", 1).isdecimal() or float(number) <= 0:
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed: a time such as 90s, 30m or 2h")
    return float(number) * unit


def _choose(name: str, source: Folder, seen: FolderSummary, seconds: float) -> Choice:
    """Time candidates and choose one."""
    from keras_srt.core.progress import ProgressBar
    from keras_srt.folders import step_timing
    from keras_srt.folders.network_choice import candidates, choose
    from keras_srt.folders.starting_config import dataset_info, starting_config

    def timer(function: Callable[[dict[str, Any], DatasetInfo], float]) -> Timer:
        def timed(network: Candidate) -> float:
            info = dataset_info(source, seen, network.size)
            with ProgressBar(f"timing {network.title} at {network.size} px"):
                return function(starting_config(name, source, seen, network, steps=1000), info)

        return timed

    estimate, measure = timer(step_timing.estimate_step), timer(step_timing.measure_step)
    return choose(candidates(seen.size, seen.channels), seconds, estimate, measure)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from keras_srt.core.files import write_text
    from keras_srt.folders import network_choice, starting_config

    name = "".join(c if c.isalnum() and c.isascii() else "_" for c in options.folder.resolve().name)
    name = name.strip("_") or "images"
    output = options.output if options.output is not None else Path(f"{name}.json")
    if output.exists():
        raise UserError(f"--output {output}: already exists; give another name")
    if not output.resolve().parent.is_dir():
        raise UserError(f"--output {output}: its folder doesn't exist; make it first")
    source = starting_config.find_source(options.folder)
    seen = starting_config.look(source.list_files(None))
    for part in ("labeled", "unlabeled", "csv", "test"):
        if (path := getattr(source, part)) is not None:
            show(f"{part:<9} {path}")
    unused = starting_config.unused_parts(options.folder, source)
    show("\n".join([*unused, *starting_config.description(seen)]))
    choice = _choose(output.stem, source, seen, options.time)
    config = starting_config.starting_config(output.stem, source, seen, choice.chosen, choice.steps)
    write_text(output, starting_config.as_text(config))
    show(f"\nfor {format_duration(options.time)} on this machine (--time)\n{choice.table()}\n")
    if choice.steps < network_choice.FEWEST_STEPS:
        show("warning: that is short for this network; give more --time, or smaller images")
    show(
        f"threat    {starting_config.describe_threat(config)}\n"
        f"config    {output}\n\nnext      keras-srt data check {output}\n"
        f"          keras-srt train --config {output} --variant smoke\n"
        f"          keras-srt train --config {output}"
    )
