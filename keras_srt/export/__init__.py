"""Export: SavedModel for TF Serving, TFLite for terminal devices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_srt.export.publish import next_version
from keras_srt.export.savedmodel import export_savedmodel
from keras_srt.export.tflite import export_tflite, tflite_probabilities
from keras_srt.lazy import keras


class Exported(NamedTuple):
    """What was published.

    Attributes:
        version: the number.
        savedmodel: its folder.
        tflite: its folder.
        savedmodel_difference: largest difference in probability from the Keras model.
        tflite_difference: likewise.
    """

    version: int
    savedmodel: Path
    tflite: Path
    savedmodel_difference: float
    tflite_difference: float


def export_classifier(
    classifier: keras.Model,
    class_names: Sequence[str],
    folder: str | Path,
    samples: np.ndarray,
    version: int | None = None,
) -> Exported:
    """Publishes `folder/<version>/` (SavedModel) and `folder/tflite/<version>/`.

    Args:
        classifier: a functional Keras model, images in [0, 1] -> logits.
        class_names: in the order of their ids.
        folder: `saved_models/<name>`.
        samples: images [n, height, width, channels] in [0, 1] on which both files are
            loaded back and compared with the classifier.
        version: a free whole number; by default the next one.

    Returns:
        Where they lie and how closely they agree.

    Raises:
        UserError: the version exists, or the folder can't be written.
        RuntimeError: a file doesn't answer as the classifier does.
    """
    folder, samples = Path(folder), np.asarray(samples, np.float32)
    number = next_version(folder, folder / "tflite") if version is None else version
    tflite, tflite_difference = export_tflite(
        classifier, class_names, folder / "tflite", number, samples
    )
    savedmodel, savedmodel_difference = export_savedmodel(
        classifier, class_names, folder, number, samples
    )
    return Exported(number, savedmodel, tflite, savedmodel_difference, tflite_difference)


__all__ = [
    "Exported",
    "export_classifier",
    "export_savedmodel",
    "export_tflite",
    "next_version",
    "tflite_probabilities",
]
