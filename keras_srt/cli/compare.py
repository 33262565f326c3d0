"""`keras-srt compare`: compare finished runs, with tests of significance."""

from __future__ import annotations

import argparse
from pathlib import Path

from keras_srt.cli.output import show
from keras_srt.core.errors import UserError

HELP = "Compare finished runs, and say which differences are significant."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN",
        help="run folder, or a folder of `evaluate --report-dir`; all are compared with the first",
    )  # fmt: skip
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="also write comparison.md, comparison.png and comparison.json into this folder",
    )


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from keras_srt import report
    from keras_srt.core.files import write_json, write_text
    from keras_srt.evaluation import significance

    made = significance.compare(options.runs)
    lines = report.comparison_lines(made)
    show("\n".join(lines))
    if options.output is None:
        return
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        text = "\n".join(["# Comparison", "", *lines, ""])
        write_text(options.output / "comparison.md", text)
        report.write_comparison_figure(made, options.output / "comparison.png")
        write_json(options.output / "comparison.json", made)
    except OSError as error:
        raise UserError(f"--output {options.output}: can't be written ({error})") from error
