"""`keras-srt train`: train, evaluate, report and export."""

from __future__ import annotations

import argparse
from pathlib import Path

from keras_srt.cli import options as shared
from keras_srt.cli.signals import signals_as_ctrl_c

HELP = "Train, evaluate, report and export."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    shared.add_config_options(parser)
    parser.add_argument("--run-dir", type=Path, help="run folder (default: runs/NAME)")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run")
    parser.add_argument(
        "--wait",
        action="store_true",
        help="first wait until another training on the processors of this machine ends",
    )
    parser.add_argument(
        "--strategy",
        choices=("one_device", "mirrored", "multi_worker"),
        help="devices to train on, instead of the config's: all GPUs of this machine (mirrored), "
        "or the cluster of TF_CONFIG (multi_worker)",
    )
    parser.add_argument(
        "--no-export", action="store_true", help="export no model; `--resume` without it does"
    )
    parser.add_argument(
        "--no-report", action="store_true", help="write report.json without figures and pages"
    )
    shared.add_quiet(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    config = shared.load_config(options)
    from keras_srt.pipeline.run import run
    from keras_srt.pipeline.run_folder import RunFolder

    path = options.run_dir if options.run_dir is not None else Path("runs") / config.name
    with signals_as_ctrl_c():
        run(
            config,
            RunFolder(path),
            options.data_dir,
            resume=options.resume,
            strategy=options.strategy,
            wait=options.wait,
            export=not options.no_export,
            pages=not options.no_report,
        )


def resume_command(options: argparse.Namespace) -> str:
    """Return the command line that continues an interrupted run."""
    return shared.resume_command()
