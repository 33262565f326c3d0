"""`keras-srt info`: print a config, its data, model and cost."""

from __future__ import annotations

import argparse
from pathlib import Path

from keras_srt.cli import options as shared
from keras_srt.cli.output import show

HELP = "Describe a config: its data, threat, model and cost, without training."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    shared.add_config_options(parser)
    parser.add_argument(
        "--json", action="store_true", help="print only the config, with all defaults, as JSON"
    )


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    config = shared.load_config(options)
    if options.json:
        print(config.to_json())
        return
    from keras_srt.core.progress import ProgressBar
    from keras_srt.pipeline.context import RunContext
    from keras_srt.pipeline.cost import time_step
    from keras_srt.pipeline.data import check_split
    from keras_srt.pipeline.describe import describe_config, describe_cost, describe_processor
    from keras_srt.pipeline.run_folder import RunFolder

    context = RunContext.open(config, RunFolder(Path("runs") / config.name), options.data_dir)
    check_split(config, context.source)
    show(describe_config(context))
    show(describe_processor())
    with ProgressBar("timing a step"):
        step = time_step(context.model, context.plan, context.info)
    show(describe_cost(context.plan, step))
