"""Prepare a run: check everything before the run folder is made, then claim the folder."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

from keras_srt.config.schema import Config
from keras_srt.core.progress import ProgressBar
from keras_srt.core.tensorflow import keras, load_tensorflow
from keras_srt.pipeline.configs import claim
from keras_srt.pipeline.context import RunContext
from keras_srt.pipeline.data import check_split
from keras_srt.pipeline.plan import make_plan
from keras_srt.pipeline.publish import check_export_folder
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.pipeline.source import CachedDataset
from keras_srt.pipeline.training_loop import is_trained
from keras_srt.pipeline.workers import (
    Distribution,
    Task,
    read_task,
    watched,
    writable_folder,
)
from keras_srt.training.strategy import check_replicas


@contextlib.contextmanager
def prepare(
    config: Config,
    folder: RunFolder,
    source: CachedDataset,
    *,
    resume: bool = False,
    strategy: str | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Iterator[RunContext | None]:
    """Check a run, and hold its folder while the body runs.

    Args:
        config: The run's configuration.
        folder: The run folder.
        source: The dataset.
        resume: Whether to continue an interrupted run.
        strategy: The strategy to use instead of the config's.
        callbacks: Keras callbacks for the training.

    Yields:
        The run; None for a worker that has nothing left to do.

    Raises:
        InvalidSettings: The config can't be trained; no folder was made.
        UserError: The folder or the devices can't be used, or another worker differs.
    """
    plan = make_plan(config, source.info)
    exporting = dataclasses.replace(config, export=str(check_export_folder(config)))
    strategy = config.training.strategy if strategy is None else strategy
    task = read_task(strategy)
    if resume and is_trained(folder, plan):
        # If the chief was interrupted after the training, it resumes without the other workers.
        if not task.is_chief:
            yield None
            return
        strategy, task = "one_device", Task()
    load_tensorflow()
    with ProgressBar("starting devices"):
        distribution = Distribution.make(strategy, task)
    check_replicas(distribution.num_replicas, plan.sizes, plan.num_validation)
    with writable_folder(task, folder) as own:
        context = RunContext(exporting, source, plan, own, distribution, resume, tuple(callbacks))
        if not own.split.is_file():
            check_split(config, source)
        with watched(task, own):
            distribution.check_agreement(config.to_json(), own.last_state)
            context.model  # noqa: B018  builds it, as it may not support the images
        with own.held():
            claim(own, config, resume)
            yield context
