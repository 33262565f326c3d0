"""`keras-srt data check` and `keras-srt init`."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from keras_srt.core.errors import UserError

_FAILED = 1


def add_check_options(options: argparse.ArgumentParser) -> None:
    """Adds the options of `data check` beside those of a config."""
    options.add_argument("--json", type=Path, metavar="FILE", help="also write all findings here")


def add_init_options(options: argparse.ArgumentParser) -> None:
    """Adds the options of `init`."""
    options.add_argument(
        "folder",
        type=Path,
        metavar="DIR",
        help="holds labeled/, unlabeled/ and test/; or one CSV with the columns path,label; or a "
        "folder for each class",
    )
    options.add_argument(
        "--output", type=Path, metavar="FILE", help="of the config (default: NAME_OF_DIR.json)"
    )


def run_check(options: argparse.Namespace) -> int | None:
    """Opens every image of a config and prints what is wrong; 1 where it should be mended."""
    from keras_srt.core.files import write_json
    from keras_srt.folders import check
    from keras_srt.pipeline import run as pipeline

    config = pipeline.load_config(options.config, options.variant, options.set)
    if options.json is not None and not options.json.resolve().parent.is_dir():
        raise UserError(f"--json {options.json}: its folder doesn't exist; make it first")
    checked = check.check(check.checked_source(config.data.dataset), options.data_dir)
    print(check.table(checked, shutil.get_terminal_size((100, 24)).columns))
    if options.json is not None:
        write_json(options.json, checked.as_json())
    return _FAILED if checked.has_errors else None


def run_init(options: argparse.Namespace) -> None:
    """Looks at a folder and writes a config to start from."""
    from keras_srt.core.files import write_text
    from keras_srt.folders import starting_config

    name = "".join(c if c.isalnum() and c.isascii() else "_" for c in options.folder.resolve().name)
    name = name.strip("_") or "images"
    output = options.output if options.output is not None else Path(f"{name}.json")
    if output.exists():
        raise UserError(f"--output {output}: is there already; give another name")
    if not output.resolve().parent.is_dir():
        raise UserError(f"--output {output}: its folder doesn't exist; make it first")
    source = starting_config.find_source(options.folder)
    seen = starting_config.look(source.list_files(None))
    write_text(
        output, starting_config.as_text(starting_config.starting_config(output.stem, source, seen))
    )
    print("\n".join(starting_config.description(seen)))
    print(
        f"config    {output}\n\nnext      keras-srt data check {output}\n"
        f"          keras-srt train --config {output} --variant smoke\n"
        f"          keras-srt train --config {output}"
    )
