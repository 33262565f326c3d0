"""`keras-srt init`: write a config for a folder of images."""

from __future__ import annotations

import argparse
from pathlib import Path

from keras_srt.cli.output import show
from keras_srt.core.errors import UserError

HELP = "Look at a folder of images and write a config to start from."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "folder",
        type=Path,
        metavar="DIR",
        help="holds labeled/, unlabeled/ and test/; or one CSV with the columns path,label; or a "
        "folder for each class",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="of the config (default: NAME_OF_DIR.json)"
    )


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from keras_srt.core.files import write_text
    from keras_srt.folders import starting_config

    name = "".join(c if c.isalnum() and c.isascii() else "_" for c in options.folder.resolve().name)
    name = name.strip("_") or "images"
    output = options.output if options.output is not None else Path(f"{name}.json")
    if output.exists():
        raise UserError(f"--output {output}: already exists; give another name")
    if not output.resolve().parent.is_dir():
        raise UserError(f"--output {output}: its folder doesn't exist; make it first")
    source = starting_config.find_source(options.folder)
    seen = starting_config.look(source.list_files(None))
    config = starting_config.starting_config(output.stem, source, seen)
    write_text(output, starting_config.as_text(config))
    for part in ("labeled", "unlabeled", "csv", "test"):
        if (path := getattr(source, part)) is not None:
            show(f"{part:<9} {path}")
    unused = starting_config.unused_parts(options.folder, source)
    show("\n".join([*unused, *starting_config.description(seen)]))
    show(
        f"config    {output}\n\nnext      keras-srt data check {output}\n"
        f"          keras-srt train --config {output} --variant smoke\n"
        f"          keras-srt train --config {output}"
    )
