"""`keras-srt info`: print a config, its data, model and cost."""

from __future__ import annotations

import argparse
from pathlib import Path

from keras_srt.cli import options as shared

HELP = "Print a config, its data, model and cost without training."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    shared.add_config_options(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    config = shared.load_config(options)
    from keras_srt.pipeline.context import RunContext
    from keras_srt.pipeline.cost import time_step
    from keras_srt.pipeline.data import check_split
    from keras_srt.pipeline.describe import describe_cost, describe_dataset, describe_processor
    from keras_srt.pipeline.run_folder import RunFolder

    print(config.to_json())
    context = RunContext.open(config, RunFolder(Path("runs") / config.name), options.data_dir)
    check_split(config, context.source)
    plan, info = context.plan, context.info
    print(f"\n{describe_dataset(info, plan)}")
    for key, value in config.neighborhood.describe().items():
        print(f"{key:<9} {value}")
    context.model.classifier.summary()
    print(describe_processor())
    print(describe_cost(plan, time_step(context.model, plan, info)))
