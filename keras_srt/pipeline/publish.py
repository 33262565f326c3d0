"""What a run publishes: SavedModel, TFLite files, and what they are worth."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from keras_srt import report as reports
from keras_srt.config.schema import Config
from keras_srt.core.errors import UserError
from keras_srt.core.tensorflow import keras
from keras_srt.data import Split, load_records
from keras_srt.evaluation.attacked_images import AttackedImages
from keras_srt.evaluation.deployed_files import measure
from keras_srt.exporters.export import ExportResult, export_classifier
from keras_srt.exporters.trainable_tflite.exporter import DeviceTrainingSettings
from keras_srt.pipeline.classifiers import best_classifier
from keras_srt.pipeline.evaluate import evaluate, load_test
from keras_srt.pipeline.report_files import read_json
from keras_srt.pipeline.run_folder import RunFolder, write_json

_EXPORT_SAMPLES = 64
_CALIBRATION_IMAGES = 300
# Objectives that a device can go on with: their losses are the two of its step.
_ON_DEVICES = ("srt", "rt")


def export_run(
    config: Config,
    run: RunFolder,
    data_dir: Path | None,
    version: int | None = None,
    keep: int | None = None,
    trainable: DeviceTrainingSettings | None = None,
) -> ExportResult:
    """Publishes the best classifier of a run; compares on its validation images."""
    info = config.data.dataset.info(data_dir)
    classifier = best_classifier(config, run, info)
    split = Split.load(run.split)
    split.check(info.num_train, info.fingerprint)
    samples, calibration = (
        np.float32(images / 255.0) for images in _some_images(config, split, data_dir)
    )
    folder = Path(config.export) / config.name
    return export_classifier(
        classifier, info.class_names, folder, samples, version, calibration, keep, trainable
    )


def device_training_settings(
    config: Config, labeled: int = 8, unlabeled: int = 24
) -> DeviceTrainingSettings:
    """How a classifier goes on learning on a device: as it was trained, in smaller batches.

    Args:
        config: of the run.
        labeled: images in a labeled batch on the device.
        unlabeled: images in an unlabeled batch.

    Raises:
        UserError: its neighborhood or its loss has no step for devices.
    """
    ball, objective, training = config.neighborhood, config.objective, config.training
    if objective.name not in _ON_DEVICES:
        raise UserError(
            f"--trainable: got the objective {objective.name!r}; allowed: "
            f"{', '.join(_ON_DEVICES)}, whose step is the one that devices have"
        )
    if getattr(ball, "name", None) != "linf":
        raise UserError(
            f"--trainable: got the neighborhood {getattr(ball, 'name', None)!r}; allowed: linf"
        )
    if not isinstance(ball.random_start, bool):
        raise UserError(
            f"--trainable: got the random_start {ball.random_start}; allowed: true or false"
        )
    for key in ("clean_loss", "robust_loss"):
        loss = getattr(objective, key)
        if loss != "cross_entropy":
            raise UserError(f"--trainable: got the {key} {loss!r}; allowed: cross_entropy")
    return DeviceTrainingSettings(
        num_steps=ball.num_steps,
        epsilon=ball.epsilon,
        step_size=ball.solver.step_size,
        labeled=labeled,
        unlabeled=unlabeled,
        random_start=ball.random_start,
        robust_weight=objective.robust_weight,
        # In proportion to the batch, as in Goyal et al. 2017, section 2.1.
        learning_rate=training.learning_rate * (labeled + unlabeled) / training.batch_size,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
    )


def _some_images(
    config: Config, split: Split, data_dir: Path | None
) -> tuple[np.ndarray, np.ndarray]:
    """Validation images to compare on, and training images to calibrate with, uint8."""
    source, compared = config.data.dataset, split.validation[:_EXPORT_SAMPLES]
    if config.data.shuffle_buffer is None:
        images = source.load_train(data_dir).images
        trained_on = np.concatenate([split.labeled, split.unlabeled])
        return images[compared], images[_calibration(trained_on, config.seed)]
    records = source.records(data_dir)
    # The labeled ones lie in the first shards; others would have all shards read.
    chosen = np.sort(_calibration(split.labeled, config.seed))
    return load_records(records, compared).images, load_records(records, chosen).images


def _calibration(trained_on: np.ndarray, seed: int) -> np.ndarray:
    """Some of the training images, the same ones at each export."""
    size = min(_CALIBRATION_IMAGES, len(trained_on))
    return np.random.default_rng(seed).choice(trained_on, size, replace=False)


def add_deployment(
    config: Config, run: RunFolder, exported: ExportResult, data_dir: Path | None
) -> dict[str, Any]:
    """Measures what was published; prints it and adds it to report.json and report.html.

    Args:
        config: of the run.
        run: a run with an evaluation; Ctrl-C leaves its report as it was.
        exported: what was published.
        data_dir: where prepared datasets lie, or None.

    Returns:
        `{"deployment": …}`, or nothing where the config or the run has none.
    """
    if not config.evaluation.deployment or not run.report.is_file():
        return {}
    info = config.data.dataset.info(data_dir)
    classifier = best_classifier(config, run, info)
    attacked = _attacked(config, classifier, run, data_dir)
    part = {"deployment": measure(classifier, exported.savedmodel, exported.tflite, attacked)}
    report = read_json(run.report) | part
    reports.write_pages(report, reports.written_figures(run.path), run.path)
    write_json(run.report, report)
    print("\n" + reports.deployment_table(part["deployment"]), flush=True)
    return part


def _attacked(
    config: Config, classifier: keras.Model, run: RunFolder, data_dir: Path | None
) -> AttackedImages:
    """The attacked test images of a run; made now if they were not kept."""
    if not run.attacked.is_file():
        count = min(config.evaluation.deployment, config.evaluation.limit or sys.maxsize)
        test = load_test(config, data_dir, count)
        robustness = evaluate(config, classifier, test, config.evaluation.attacks)
        AttackedImages.of(test.images, robustness, count).save(run.attacked)
    return AttackedImages.load(run.attacked)


def describe_export(exported: ExportResult) -> str:
    """Where the files lie and how closely they agree with the Keras model."""
    files = ", ".join(f"{f.name} {f.difference:.1e}" for f in exported.tflite_files if f.published)
    lines = [
        f"SavedModel  {exported.savedmodel} (probabilities within "
        f"{exported.savedmodel_difference:.1e} of Keras)",
        f"TFLite      {exported.tflite} (within {files})",
    ]
    if exported.pruned:
        lines.append(f"removed     versions {', '.join(map(str, exported.pruned))}")
    lines += [
        f"warning: no {file.name} file: it gives the class of Keras for only {file.share:.0%} of "
        "the images"
        for file in exported.tflite_files
        if not file.published
    ]
    return "\n".join(lines)
