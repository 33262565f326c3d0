"""A run: prepare, train, evaluate, report, publish."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_srt.config.schema import Config
from keras_srt.core.files import absolute
from keras_srt.core.formatting import format_duration
from keras_srt.core.log_levels import RESULT
from keras_srt.core.tensorflow import keras
from keras_srt.pipeline.evaluate import evaluate
from keras_srt.pipeline.prepare import prepare
from keras_srt.pipeline.publish import complete_publication, is_published
from keras_srt.pipeline.report import read_json, report
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.pipeline.source import CachedDataset
from keras_srt.pipeline.train import train

logger = logging.getLogger(__name__)


def run(
    config: Config,
    folder: RunFolder,
    data_dir: Path | None = None,
    *,
    resume: bool = False,
    strategy: str | None = None,
    wait: bool = False,
    export: bool = True,
    pages: bool = True,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, Any]:
    """Train, evaluate on the test part, report and publish.

    Args:
        config: The run's configuration.
        folder: The run folder.
        data_dir: The folder of prepared datasets, or None for the default.
        resume: Whether to continue an interrupted run.
        strategy: The strategy to use instead of the config's.
        wait: Whether to wait until another training on the processors of this machine ends.
        export: Whether to publish the model.
        pages: Whether to write figures, report.html and MODEL_CARD.md beside report.json.
        callbacks: Keras callbacks for the training, such as W&B's or MLflow's.

    Returns:
        The content of report.json; empty for a worker that isn't the chief.

    Raises:
        InvalidSettings: The config can't be trained.
        UserError: The dataset, the folder, the devices or a checkpoint can't be used.
        Interrupted: Training was interrupted; its state is saved.
    """
    began = time.perf_counter()
    # The working directory may be removed during the run.
    folder = RunFolder(absolute(folder.path, "run folder"))
    data_dir = None if data_dir is None else absolute(data_dir, "data folder")
    source = CachedDataset(config.data.dataset, data_dir)
    with prepare(
        config, folder, source, resume=resume, strategy=strategy, callbacks=callbacks
    ) as context:
        if context is None:
            return {}
        if context.folder.report.is_file() and (is_published(context) or not export):
            logger.log(RESULT, "this run is finished; its results are in %s", folder.report)
            return read_json(folder.report)
        train(context, wait=wait)
        if not context.distribution.task.is_chief:
            return {}
        if not context.folder.report.is_file():
            report(context, evaluate(context), pages=pages)
        # Its results are in the report.
        shutil.rmtree(context.folder.evaluation, ignore_errors=True)
        if export:
            complete_publication(context)
        written = folder.path / "report.html"
        logger.log(RESULT, "report      %s", written if written.is_file() else folder.report)
        spent = format_duration(time.perf_counter() - began)
        logger.log(RESULT, "total time  %s%s", spent, " in this session" if resume else "")
        return read_json(context.folder.report)
