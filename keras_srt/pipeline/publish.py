"""Publish a run: SavedModel and TFLite files, and their accuracy and latency."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt import report as reports
from keras_srt.config.schema import Config
from keras_srt.core.errors import UserError
from keras_srt.core.files import absolute, read_checksummed_json, write_json
from keras_srt.core.log_levels import RESULT
from keras_srt.core.progress import ProgressBar
from keras_srt.core.sample_images import choose_samples
from keras_srt.data import Split, load_records
from keras_srt.evaluation.attacked_images import AttackedImages
from keras_srt.evaluation.deployed_files import measure
from keras_srt.exporters.export import ExportResult, export_classifier, resume_export
from keras_srt.exporters.trainable_tflite.exporter import DeviceTrainingSettings
from keras_srt.neighborhoods import L2, LInf, Neighborhood, Spatial
from keras_srt.pipeline.context import RunContext
from keras_srt.pipeline.data import saved_split
from keras_srt.pipeline.describe import describe_export
from keras_srt.pipeline.evaluate import run_attacks
from keras_srt.pipeline.report import read_json

logger = logging.getLogger(__name__)

_NUM_SAMPLES = 64
_NUM_CALIBRATION = 300
# The objectives whose losses are those of the training step on devices.
_ON_DEVICES = ("srt", "rt")


def publish(
    context: RunContext,
    version: int | None = None,
    keep: int | None = None,
    trainable: DeviceTrainingSettings | None = None,
) -> dict[str, Any]:
    """Export the best classifier of a run, and evaluate the exported files.

    Args:
        context: The run.
        version: A free version, or None for the next one.
        keep: The number of latest versions to keep, or None for all.
        trainable: Settings for a file that can be trained on devices, or None for no such file.

    Returns:
        The part of report.json about the exported files, `{"deployment": …}`; empty if the
        config or the run has none.
    """
    folder = context.folder
    if not context.config.evaluation.deployment or not folder.report.is_file():
        logger.log(RESULT, describe_export(export_run(context, version, keep, trainable)))
        return {}
    with folder.writing():
        exported = export_run(context, version, keep, trainable, folder.export)
        logger.log(RESULT, describe_export(exported))
        return add_deployment(context, exported)


def is_published(context: RunContext) -> bool:
    """Return whether `complete_publication` has nothing left to do."""
    try:
        recorded = read_checksummed_json(context.folder.export)
        report = read_json(context.folder.report)
    except (OSError, ValueError, UserError):
        return False
    measured = not context.config.evaluation.deployment or "deployment" in report
    return measured and "drafts" not in recorded


def complete_publication(context: RunContext) -> dict[str, Any]:
    """Do what is missing of `publish`, which may have been interrupted."""
    record = context.folder.export
    exported = resume_export(export_folder(context.config), record)
    exported = export_run(context, record=record) if exported is None else exported
    logger.log(RESULT, describe_export(exported))
    return add_deployment(context, exported)


def export_folder(config: Config) -> Path:
    """Return the folder of a run's exported versions."""
    return Path(config.export) / config.name


def check_export_folder(config: Config) -> Path:
    """Check before a training that its model can be published.

    Returns:
        The folder of all exported models, absolute.

    Raises:
        UserError: The folder of exported models is a file, or can't be written.
    """
    root = absolute(Path(config.export), "export")
    folder = root / config.name / "tflite"
    existing = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not existing.is_dir():
        raise UserError(f"export: {existing} is not a folder; set another --set export=DIR")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"export: {existing} can't be written; set another --set export=DIR")
    return root


def export_run(
    context: RunContext,
    version: int | None = None,
    keep: int | None = None,
    trainable: DeviceTrainingSettings | None = None,
    record: Path | None = None,
) -> ExportResult:
    """Export the best classifier of a run, see `publish` and `export_classifier`.

    The exported files are compared with the classifier on validation images. Of public datasets,
    the files have sample images from the test part.
    """
    config, info = context.config, context.info
    split = saved_split(context)
    classifier = context.best_classifier
    samples, calibration = (np.float32(part / 255.0) for part in _some_images(context, split))
    shown = None
    if not config.data.dataset.is_private:
        shown = choose_samples(*context.source.test(), info.class_names)
    return export_classifier(
        classifier,
        info.class_names,
        export_folder(config),
        samples,
        version,
        calibration,
        keep,
        trainable,
        record,
        shown,
    )


def _some_images(context: RunContext, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Return images to compare on and training images to calibrate with, uint8.

    The first are validation images; labeled images if there are none.
    """
    source, seed = context.source, context.config.seed
    held_out = split.validation if len(split.validation) else split.labeled
    compared = held_out[:_NUM_SAMPLES]
    if context.config.data.shuffle_buffer is None:
        images = source.train.images
        trained_on = np.concatenate([split.labeled, split.unlabeled])
        return images[compared], images[_calibration(trained_on, seed)]
    # The labeled images are in the first shards; unlabeled ones would be read from all shards.
    chosen = np.sort(_calibration(split.labeled, seed))
    return tuple(load_records(source.records, part).images for part in (compared, chosen))


def _calibration(trained_on: np.ndarray, seed: int) -> np.ndarray:
    """Choose training images, the same at each export."""
    size = min(_NUM_CALIBRATION, len(trained_on))
    return np.random.default_rng(seed).choice(trained_on, size, replace=False)


def add_deployment(context: RunContext, exported: ExportResult) -> dict[str, Any]:
    """Evaluate exported files and add the result to report.json and report.html.

    Args:
        context: A run with a report, which an interruption leaves unchanged.
        exported: The exported files.

    Returns:
        `{"deployment": …}`, or nothing if the config or the run has none.
    """
    folder = context.folder
    if not context.config.evaluation.deployment or not folder.report.is_file():
        return {}
    attacked = _attacked(context)
    classifier = context.best_classifier
    # The latencies, Keras and the SavedModel, and each TFLite file.
    parts = 3 + sum(file.published for file in exported.tflite_files)
    with ProgressBar("measuring", parts) as bar:
        measured = measure(classifier, exported.savedmodel, exported.tflite, attacked, bar.advance)
    report = read_json(folder.report) | {"deployment": measured}
    if (folder.path / "report.html").is_file():  # the training was asked for pages
        reports.write_pages(report, reports.written_figures(folder.path), folder.path)
    write_json(folder.report, report)
    logger.log(RESULT, "\n" + reports.deployment_table(measured))
    return {"deployment": measured}


def _attacked(context: RunContext) -> AttackedImages:
    """Return the attacked test images of a run; attack them now if they were not kept."""
    path, config = context.folder.attacked, context.config
    if not path.is_file():
        count = min(config.evaluation.deployment, config.evaluation.limit or sys.maxsize)
        test = context.source.test(count)
        attacks = config.evaluation.attacks
        robustness = run_attacks(config, context.best_classifier, test, attacks)
        AttackedImages.of(test.images, robustness, count).save(path)
    return AttackedImages.load(path)


def device_training_settings(
    config: Config, sizes: tuple[int, int] | None = None
) -> DeviceTrainingSettings:
    """Make the settings of training on a device: those of the run, with smaller batches.

    Args:
        config: The run's configuration.
        sizes: Labeled and unlabeled images of a batch on the device; by default 8 and 24 for SRT,
            32 and 0 for RT.

    Raises:
        UserError: Training on devices doesn't support the neighborhood or the objective.
    """
    objective, training = config.objective, config.training
    if objective.name not in _ON_DEVICES:
        raise UserError(
            f"--trainable: got the objective {objective.name!r}; allowed: "
            f"{', '.join(_ON_DEVICES)}, whose training step devices support"
        )
    if getattr(objective, "robust_images", "all") != "all":
        raise UserError("--trainable: got the robust_images 'unlabeled'; allowed: all")
    for key in ("clean_loss", "robust_loss"):
        loss = getattr(objective, key)
        if loss != "cross_entropy":
            raise UserError(f"--trainable: got the {key} {loss!r}; allowed: cross_entropy")
    if sizes is None:
        sizes = (8, 24) if objective.uses_unlabeled else (32, 0)
    labeled, unlabeled = sizes
    if unlabeled and not objective.uses_unlabeled:
        raise UserError(
            f"--trainable-batch: got {unlabeled} unlabeled images; allowed: 0 with the objective "
            f"{objective.name!r}"
        )
    return DeviceTrainingSettings(
        **_searches_on_devices(config.neighborhood),
        labeled=labeled,
        unlabeled=unlabeled,
        robust_weight=objective.robust_weight,
        # In proportion to the batch, as in Goyal et al. 2017, section 2.1.
        learning_rate=training.learning_rate * (labeled + unlabeled) / training.batch_size,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
    )


def _searches_on_devices(neighborhood: Neighborhood) -> dict[str, Any]:
    """Return the stages of a neighborhood and the settings of their searches.

    Raises:
        UserError: Devices don't support a search.
    """
    found: dict[str, Any] = {"stages": tuple(s.name for s in neighborhood.stages_in_order)}
    for stage in neighborhood.stages_in_order:
        if isinstance(stage, LInf | L2):
            if not isinstance(stage.random_start, bool):
                raise UserError(
                    f"--trainable: got the random_start {stage.random_start}; allowed: true or "
                    "false"
                )
            names = ("num_steps", "epsilon", "random_start")
            found |= {name: getattr(stage, name) for name in names}
            found["step_size"] = stage.solver.step_size
        elif isinstance(stage, Spatial):
            if stage.search != "random":
                raise UserError(f"--trainable: got the search {stage.search!r}; allowed: random")
            names = ("num_samples", "max_rotation", "max_translation")
            found |= {name: getattr(stage, name) for name in names}
    if getattr(neighborhood, "mode", "sequential") != "sequential":
        raise UserError("--trainable: got the mode 'joint'; allowed: sequential")
    return found
