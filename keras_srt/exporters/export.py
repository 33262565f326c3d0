"""Export: SavedModel for TF Serving, TFLite for terminal devices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.core.tensorflow import keras
from keras_srt.exporters.model_versions import next_version, prune, published
from keras_srt.exporters.savedmodel import export_savedmodel, write_savedmodel
from keras_srt.exporters.tf_serving_config import write_model_config
from keras_srt.exporters.tflite import TfliteFile, export_tflite, tflite_probabilities, write_tflite
from keras_srt.exporters.trainable_tflite.exporter import (
    TRAIN_FILE,
    DeviceTrainingSettings,
    write_trainable,
)


class Exported(NamedTuple):
    """What was published.

    Attributes:
        version: the number.
        savedmodel: its folder.
        tflite: its folder.
        savedmodel_difference: largest difference in probability from the Keras model.
        tflite_files: what was found of each TFLite file.
        model_config: TF Serving's list of models.
        pruned: old versions that were removed.
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
) -> Exported:
    """Publishes `folder/<version>/` (SavedModel) and `folder/tflite/<version>/`.

    Neither appears before both are whole and have been compared with the classifier. Then
    `model.config` beside `folder` is written anew, and old versions are removed.

    Args:
        classifier: a functional Keras model, images in [0, 1] -> logits.
        class_names: in the order of their ids.
        folder: `saved_models/<name>`.
        samples: images [n, height, width, channels] in [0, 1] on which both files are
            loaded back and compared with the classifier.
        version: a free whole number; by default the next one.
        calibration: training images of the same kind, from which the int8 file learns the
            range of each activation; by default the samples.
        keep: how many versions stay, at least 1; by default all.
        trainable: of training on a device; by default no `model_train.tflite` is written.

    Returns:
        Where they lie and how closely they agree.

    Raises:
        UserError: the version exists, the folder can't be written, or the classifier has a
            layer that can't learn on a device.
        RuntimeError: a file doesn't answer as the classifier does.
    """
    folder, samples = Path(folder), np.asarray(samples, np.float32)
    if keep is not None and keep < 1:
        raise UserError(f"keep: got {keep}; allowed: a whole number of at least 1")
    tflite = folder / "tflite"
    number = next_version(folder, tflite) if version is None else version
    with published(folder, number) as draft, published(tflite, number) as tflite_draft:
        if trainable is not None:
            write_trainable(classifier, class_names, tflite_draft / TRAIN_FILE, trainable, samples)
        savedmodel_difference = write_savedmodel(classifier, class_names, draft, samples)
        tflite_files = write_tflite(classifier, class_names, tflite_draft, samples, calibration)
    model_config = write_model_config(folder.parent)
    pruned = prune([folder, tflite], keep, number) if keep is not None else []
    return Exported(
        number,
        folder / str(number),
        tflite / str(number),
        savedmodel_difference,
        tflite_files,
        model_config,
        tuple(pruned),
    )


__all__ = [
    "DeviceTrainingSettings",
    "Exported",
    "TfliteFile",
    "export_classifier",
    "export_savedmodel",
    "export_tflite",
    "next_version",
    "tflite_probabilities",
]
