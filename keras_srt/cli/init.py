"""`keras-srt init`: write a config for a folder of images."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from keras_srt.cli.output import show
from keras_srt.core.errors import UserError
from keras_srt.core.formatting import format_duration

if TYPE_CHECKING:
    from keras_srt.data import DatasetInfo, Folder
    from keras_srt.folders.network_choice import Candidate, Choice, Timer
    from keras_srt.folders.summary import FolderSummary

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
        "--network",
        metavar="NAME",
        help="the model to train, such as mobilenet_v2 (default: chosen by the time of its steps)",
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="pretrained weights of the network (default: mobilenet_v2) without its top, in the "
        "format of keras.applications, or 'imagenet' to download them",
    )
    parser.add_argument(
        "--epsilon",
        type=_epsilon,
        metavar="NUMBER",
        help="radius of the noise, such as 8/255 or 0.1 (default: by the kind of images)",
    )
    parser.add_argument(
        "--no-check",
        action="store_true",
        help="do not train a standard model for up to two minutes to see if the noise is a threat",
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


def _epsilon(text: str) -> str | float:
    """Read the radius of a noise; a fraction is kept as it is."""
    from keras_srt.core.validation import parse_number

    try:
        value = float(parse_number(text))
    except (ValueError, ZeroDivisionError):
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(
            f"got {text!r}; allowed: above 0, to 1, such as 8/255 or 0.1"
        )
    return text if "/" in text else value


class _Start(NamedTuple):
    """What `init` knows about the folder, and what the user asked for."""

    name: str
    source: Folder
    seen: FolderSummary
    options: argparse.Namespace

    def config(self, network: Candidate, steps: int) -> dict[str, Any]:
        """Return the content of the config."""
        from keras_srt.folders.starting_config import starting_config

        given = self.options.epsilon
        return starting_config(self.name, self.source, self.seen, network, steps, given)

    def choose(self) -> Choice:
        """Time candidates and choose one."""
        from keras_srt.folders import step_timing
        from keras_srt.folders.network_choice import Limits, by_pixels, candidates, choose

        options, seen = self.options, self.seen
        among = candidates(seen.size, seen.channels, options.network, options.weights)
        limits = Limits()
        if options.weights is not None:
            images = seen.num_labeled + seen.num_unlabeled
            limits = Limits.of_pretrained(images, among[0].batch_size)
        estimate = self._timer(step_timing.estimate_step)
        if options.network is not None or options.weights is not None:
            estimate = by_pixels(estimate)
        return choose(among, options.time, estimate, self._timer(step_timing.measure_step), limits)

    def _timer(self, function: Callable[[dict[str, Any], DatasetInfo], float]) -> Timer:
        from keras_srt.core.progress import ProgressBar

        def timed(network: Candidate) -> float:
            info = self.seen.dataset_info(self.source, network.size)
            with ProgressBar(f"timing {network.title} at {network.size} px"):
                return function(self.config(network, steps=1000), info)

        return timed

    def check(self, choice: Choice) -> str:
        """Check the threat on a standard model; return the line to show."""
        from keras_srt.folders import threat_check

        content = self.config(choice.chosen, choice.steps)
        info = self.seen.dataset_info(self.source, choice.chosen.size)
        found = threat_check.check_threat(content, info, self.options.time, choice.step_seconds)
        return found.describe()


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from keras_srt.core.files import write_text
    from keras_srt.folders import starting_config

    start = _look(options)
    choice = start.choose()
    show(f"\nfor {format_duration(options.time)} on this machine (--time)\n{choice.table()}\n")
    if advice := choice.advice():
        show(advice)
    config, output = start.config(choice.chosen, choice.steps), _output(options)
    show(f"threat    {starting_config.describe_threat(config)}")
    if not options.no_check:
        show(start.check(choice))
    write_text(output, starting_config.as_text(config))
    show(
        f"config    {output}\n\nnext      keras-srt data check {output}\n"
        f"          keras-srt train --config {output} --variant smoke\n"
        f"          keras-srt train --config {output}"
    )


def _look(options: argparse.Namespace) -> _Start:
    """Look at the folder and show what is found."""
    from keras_srt.folders.layout import find_source, unused_parts
    from keras_srt.folders.summary import summarize

    output = _output(options)
    if output.exists():
        raise UserError(f"--output {output}: already exists; give another name")
    if not output.resolve().parent.is_dir():
        raise UserError(f"--output {output}: its folder doesn't exist; make it first")
    source = find_source(options.folder)
    seen = summarize(source.list_files(None))
    for part in ("labeled", "unlabeled", "csv", "test"):
        if (path := getattr(source, part)) is not None:
            show(f"{part:<9} {path}")
    unused = unused_parts(options.folder, source)
    show("\n".join([*unused, *seen.describe()]))
    return _Start(_as_name(output.stem), source, seen, options)


def _output(options: argparse.Namespace) -> Path:
    """Return the path of the config."""
    if options.output is not None:
        return Path(options.output)
    return Path(f"{_as_name(options.folder.resolve().name)}.json")


def _as_name(text: str) -> str:
    """Return the name of a run, which has only letters, digits, dashes and underscores."""
    name = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in text)
    return name.strip("_-") or "images"
