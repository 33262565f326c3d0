"""Evaluate a finished run again, or an external model."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt.attacks import TargetModel
from keras_srt.attacks.target_model import classes_of
from keras_srt.config.schema import Config
from keras_srt.core.errors import UserError
from keras_srt.data import Images
from keras_srt.evaluation.external.open_model import ExternalModel, open_model
from keras_srt.evaluation.model_checks import range_warnings
from keras_srt.foreign.model_options import ModelOptions
from keras_srt.pipeline.context import RunContext
from keras_srt.pipeline.data import saved_split
from keras_srt.pipeline.evaluate import Evaluation, measure
from keras_srt.pipeline.report import make_report, write_report
from keras_srt.pipeline.source import CachedDataset

_DEFAULTS = ModelOptions()
logger = logging.getLogger(__name__)

# An external model is first called on so many test images.
_NUM_SAMPLES = 16
# The range of its inputs is examined on so many.
_NUM_RANGE_IMAGES = 100


def evaluate_run(context: RunContext, folder: Path | None = None) -> dict[str, Any]:
    """Evaluate the best classifier of a run; its folder isn't changed.

    Args:
        context: The run, with the settings of the evaluation.
        folder: An empty folder for all reports, or None.

    Returns:
        The content of report.json.

    Raises:
        UserError: The dataset is not the one that the run started with.
    """
    saved_split(context)  # the class ids must be those of the training
    config, settings = context.config, context.config.evaluation
    target_model = TargetModel(context.best_classifier, settings.batch_size, settings.precision)
    evaluation = measure(config, target_model, context.source.test(settings.limit))
    return _report(config, context.source, evaluation, config.name, folder, trained=context)


def evaluate_external(
    config: Config,
    source: CachedDataset,
    model: str,
    folder: Path | None = None,
    options: ModelOptions = _DEFAULTS,
) -> dict[str, Any]:
    """Evaluate an external model.

    Args:
        config: The settings of the evaluation.
        source: The dataset.
        model: The model's file, folder or URL, see `open_model`.
        folder: An empty folder for all reports, or None.
        options: What the user declares about the model, see `adapt`.

    Returns:
        The content of report.json.

    Raises:
        UserError: The model can't be used, or not with these attacks.
    """
    settings, test = config.evaluation, source.test(config.evaluation.limit)
    samples = np.float32(test.images[:_NUM_SAMPLES] / 255.0)
    external = open_model(
        model, source.info, samples, settings.batch_size, options, settings.precision
    )
    external.check_attacks(settings.attacks)
    for line in external.conversions:
        logger.info("%s: %s", model, line)
    for warning in external.warnings:
        logger.warning(warning)
    if external.is_range_assumed:
        _check_range(model, external, test)
    evaluation = measure(config, external.model, test)
    about = {"victim": external.describe()}
    return _report(config, source, evaluation, model, folder, about=about)


def _check_range(name: str, external: ExternalModel, test: Images) -> None:
    """Refuse an assumed range if the model is much better on images of another one."""
    count = len(test.images[:_NUM_RANGE_IMAGES])
    images, labels = np.float32(test.images[:count] / 255.0), np.int32(test.labels[:count])
    clean = classes_of(external.model.logits(images))
    for line in range_warnings(external.model, images, labels, clean):
        raise UserError(f"--model {name}: {line}")


def _report(
    config: Config,
    source: CachedDataset,
    evaluation: Evaluation,
    name: str,
    folder: Path | None,
    **more: Any,
) -> dict[str, Any]:
    if folder is None:
        return make_report(config, source, evaluation, name, **more)
    return write_report(config, source, evaluation, name, folder, **more)
