"""Exporting a classifier in all formats as one version."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.files import read_checksummed_json, write_checksummed_json
from keras_srt.core.progress import ProgressBar
from keras_srt.core.sample_images import SampleImages, write_samples
from keras_srt.core.tensorflow import keras
from keras_srt.exporters.model_versions import (
    next_version,
    prune,
    publish_draft,
    publishing,
)
from keras_srt.exporters.savedmodel import write_savedmodel
from keras_srt.exporters.tf_serving_config import write_model_config
from keras_srt.exporters.tflite import TfliteFile, write_tflite
from keras_srt.exporters.trainable_tflite.exporter import (
    TRAIN_FILE,
    DeviceTrainingSettings,
    write_trainable,
)
from keras_srt.foreign.adapt import adapt_keras
from keras_srt.foreign.adapted_model import AdaptedModel


class ExportResult(NamedTuple):
    """A published version.

    Attributes:
        version: Version number.
        savedmodel: Folder of the SavedModel.
        tflite: Folder of the TFLite files.
        savedmodel_difference: Largest difference in probability from the Keras model.
        tflite_files: Agreement of each TFLite file with the Keras model.
        model_config: TF Serving's list of models.
        pruned: Old versions that were removed.
    """

    version: int
    savedmodel: Path
    tflite: Path
    savedmodel_difference: float
    tflite_files: tuple[TfliteFile, ...]
    model_config: Path
    pruned: tuple[int, ...]


def export_classifier(
    classifier: keras.Model,
    class_names: Sequence[str],
    folder: str | Path,
    samples: np.ndarray,
    version: int | None = None,
    calibration: np.ndarray | None = None,
    keep: int | None = None,
    trainable: DeviceTrainingSettings | None = None,
    record: Path | None = None,
    shown: SampleImages | None = None,
) -> ExportResult:
    """Publish `folder/<version>/` (SavedModel) and `folder/tflite/<version>/`.

    Both folders appear only after both are complete and agree with the classifier. Then
    `model.config` in the parent of `folder` is rewritten, and old versions are removed.

    Args:
        classifier: Functional Keras model, images in [0, 1] -> logits.
        class_names: Class names in the order of their ids.
        folder: `saved_models/<name>`.
        samples: Images [n, height, width, channels] in [0, 1] on which the exported files are
            compared with the classifier.
        version: An unused version number; by default the next one.
        calibration: Training images [n, height, width, channels] in [0, 1], for the activation
            ranges of the int8 file; by default the samples.
        keep: Number of versions to keep, at least 1; by default all.
        trainable: Settings of training on a device; by default no `model_train.tflite` is
            written.
        record: A JSON file to write, from which `resume_export` completes an interrupted
            publication; by default none.
        shown: Images that the page of `keras-srt serve` offers to try; by default none.

    Returns:
        The published folders and their agreement with the classifier.

    Raises:
        UserError: The version exists, the folder can't be written, or the classifier has a
            layer that can't be trained on a device.
        RuntimeError: An exported file doesn't agree with the classifier.
    """
    folder, samples = Path(folder), np.asarray(samples, np.float32)
    if keep is not None and keep < 1:
        raise UserError(f"keep: got {keep}; allowed: a whole number of at least 1")
    tflite = folder / "tflite"
    number = next_version(folder, tflite) if version is None else version
    with publishing(folder, number) as draft, publishing(tflite, number) as tflite_draft:
        if trainable is not None:
            with ProgressBar("trainable TFLite"):
                path = tflite_draft / TRAIN_FILE
                write_trainable(classifier, class_names, path, trainable, samples)
        with ProgressBar("SavedModel"):
            savedmodel_difference = write_savedmodel(classifier, class_names, draft, samples)
            if shown is not None:
                write_samples(draft, shown)
        tflite_files = write_tflite(classifier, class_names, tflite_draft, samples, calibration)
        # In the order of the renames.
        drafts = [(path.name, path.stat().st_ino) for path in (tflite_draft, draft)]
        made = _Made(number, savedmodel_difference, tflite_files)
        if record is not None:
            write_checksummed_json(record, {**made.as_json(), "drafts": drafts})
    return _finish(folder, made, keep, record)


class _Made(NamedTuple):
    """The complete files of a version."""

    version: int
    savedmodel_difference: float
    tflite_files: tuple[TfliteFile, ...]

    def as_json(self) -> dict[str, Any]:
        return {**self._asdict(), "tflite_files": [file._asdict() for file in self.tflite_files]}


def _finish(folder: Path, made: _Made, keep: int | None, record: Path | None) -> ExportResult:
    """List a published version for TF Serving, remove old versions, and complete the record."""
    tflite, number = folder / "tflite", made.version
    model_config = write_model_config(folder.parent)
    pruned = prune([folder, tflite], keep, number) if keep is not None else []
    if record is not None:
        write_checksummed_json(record, made.as_json())
    return ExportResult(
        number,
        folder / str(number),
        tflite / str(number),
        made.savedmodel_difference,
        made.tflite_files,
        model_config,
        tuple(pruned),
    )


def resume_export(folder: Path, record: Path) -> ExportResult | None:
    """Complete an export that was interrupted while it was published, or return a complete one.

    Args:
        folder: `saved_models/<name>`.
        record: The file that `export_classifier` wrote.

    Returns:
        The published version; None if there is no record, or its files are gone.

    Raises:
        UserError: The folder can't be written.
    """
    try:
        content = read_checksummed_json(record)
        drafts = content.pop("drafts", [])
        files = tuple(TfliteFile(**file) for file in content.pop("tflite_files"))
        made = _Made(**content, tflite_files=files)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    number = str(made.version)
    finals = [path / number for path in (folder / "tflite", folder)]
    for (name, inode), final in zip(drafts, finals, strict=False):
        draft = final.with_name(name)
        if draft.exists() and not final.exists():
            publish_draft(draft, final)
        # A rename keeps the number of the inode.
        if not final.exists() or final.stat().st_ino != inode:
            return None
    if not all(final.exists() for final in finals):
        return None
    return _finish(folder, made, None, record)


def export(
    model: Any,
    path: str | Path,
    class_names: Sequence[str],
    samples: np.ndarray | None = None,
    **settings: Any,
) -> ExportResult:
    """Publish a `RobustModel` or a classifier as a SavedModel and as TFLite files.

    Args:
        model: A `RobustModel`; a Keras classifier, images in [0, 1] -> logits, or as its layers
            tell; or any model that `adapt_model` adapted.
        path: `saved_models/<name>`; the next version is written below it.
        class_names: Class names in the order of their ids.
        samples: Images [n, height, width, channels] in [0, 1], on which the files are compared
            with the model, and which calibrate the int8 file; by default the first training
            batch of the `RobustModel`.
        **settings: Further arguments of `export_classifier`.

    Returns:
        The published folders and their agreement with the model.

    Raises:
        InvalidSettings: There are no samples.
        UserError: The version exists or the folder can't be written.
        RuntimeError: An exported file doesn't agree with the model.
    """
    if samples is None and hasattr(model, "example_images"):
        samples = model.example_images()
    if samples is None:
        raise InvalidSettings(
            [
                "samples: missing; allowed: images [n, height, width, channels] in [0, 1], because "
                "the model was not trained in this process"
            ]
        )
    model = adapt_keras(model, np.asarray(samples, np.float32), check_outputs=True)
    if isinstance(model, AdaptedModel):
        model.check_exportable()
        model.check_distribution()
    classifier = getattr(model, "inference_model", model)
    return export_classifier(classifier, class_names, path, samples, **settings)
