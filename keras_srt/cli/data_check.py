"""`keras-srt data check`: open every image of a config and report problems."""

from __future__ import annotations

import argparse
from pathlib import Path

from keras_srt.cli import options as shared
from keras_srt.cli.output import show
from keras_srt.core.errors import InvalidSettings, UserError

HELP = "Open every image of a config with own images and report what is wrong."
_FAILED = 1


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    shared.add_config_options(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all findings here")


def run(options: argparse.Namespace) -> int | None:
    """Run the command; return 1 if an image has to be repaired or removed."""
    from keras_srt.core.files import write_json
    from keras_srt.folders import check
    from keras_srt.pipeline.data import split_of
    from keras_srt.pipeline.plan import make_plan

    config = shared.load_config(options)
    if options.json is not None and not options.json.resolve().parent.is_dir():
        raise UserError(f"--json {options.json}: its folder doesn't exist; make it first")
    source = check.checked_source(config.data.dataset)
    checked = check.check(source, options.data_dir)
    try:
        make_plan(config, checked.describe(source))
        split_of(config, checked.labels, len(checked.classes))
    except InvalidSettings as error:
        checked = checked.with_error("not trainable", "train will refuse this", error.problems)
    show(check.table(checked))
    if options.json is not None:
        write_json(options.json, checked.as_json())
    return _FAILED if checked.has_errors else None
