"""`keras-srt compare`."""

from __future__ import annotations

import argparse
from pathlib import Path

from keras_srt.core.errors import UserError


def add_options(options: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    options.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN",
        help="run folder, or what `evaluate --report-dir` wrote; all are compared with the first",
    )  # fmt: skip
    options.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="also write significance.md, significance.png and significance.json into this folder",
    )


def run(options: argparse.Namespace) -> None:
    """Compares runs, and writes what was found."""
    from keras_srt import report
    from keras_srt.evaluation import significance
    from keras_srt.pipeline.run_folder import write_json

    made = significance.compare(options.runs)
    lines = report.comparison_lines(made)
    print("\n".join(lines))
    if options.output is None:
        return
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        text = "\n".join(["# Comparison", "", *lines, ""])
        (options.output / "comparison.md").write_text(text, encoding="utf-8")
        report.write_comparison_figure(made, options.output / "comparison.png")
        write_json(options.output / "comparison.json", made)
    except OSError as error:
        raise UserError(f"--output {options.output}: can't be written ({error})") from error
