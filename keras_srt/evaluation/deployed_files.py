"""Comparison of exported models with the Keras model: section `deployment` of report.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_srt.core.model_loading import load_savedmodel
from keras_srt.core.tensorflow import keras, tf
from keras_srt.device.classify import Classifier, installed_interpreter
from keras_srt.evaluation.attacked_images import AttackedImages
from keras_srt.evaluation.intervals import proportion
from keras_srt.evaluation.latency import measure_latency
from keras_srt.exporters.tflite import QUANTIZATIONS

_BATCH = 100
# Time limit of the comparison; slow models are measured on fewer images.
_SECONDS = 60.0
_FEWEST_IMAGES = 50

# Images float32 [n, height, width, channels] in [0, 1] -> probabilities [n, classes].
Predict = Callable[[np.ndarray], np.ndarray]


class Probabilities(NamedTuple):
    """Predicted probabilities [n, classes].

    Attributes:
        clean: Probabilities of the clean images.
        attacked: Probabilities of the attacked images, by name of the attack.
    """

    clean: np.ndarray
    attacked: Mapping[str, np.ndarray]


def measure(
    classifier: keras.Model,
    savedmodel: Path,
    tflite: Path,
    images: AttackedImages,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Measure an exported version.

    Args:
        classifier: The exported Keras model, images -> logits.
        savedmodel: Folder of the version.
        tflite: Folder of its .tflite files.
        images: Test images before and after attacks on the Keras model.
        advance: Called after the latencies, and after the predictions of each model.

    Returns:
        The section `deployment` of report.json: accuracies of "keras", "savedmodel" and each
        .tflite file, and the size, latency and agreement of the exported ones.
    """
    files = {kind.name: tflite / f"model_{kind.name}.tflite" for kind in QUANTIZATIONS}
    files = {name: path for name, path in files.items() if path.is_file()}
    latencies = measure_latency(savedmodel, files, images.images[0])
    advance()
    images = images.first(_affordable(images, latencies))
    reference = predict_all(_of_keras(classifier), images)
    advance()
    exported = {"savedmodel": _of_savedmodel(savedmodel)}
    exported |= {name: _of_tflite(path) for name, path in files.items()}
    models = [{"name": "keras", **accuracies(reference, images.labels)}]
    for name, predict in exported.items():
        probabilities = predict_all(predict, images)
        models.append(
            {
                "name": name,
                "bytes": _size(files.get(name, savedmodel)),
                "latency_ms": latencies[name],
                "agreement": agreement(reference.clean, probabilities.clean),
                **accuracies(probabilities, images.labels),
            }
        )
        advance()
    return {
        "version": int(savedmodel.name),
        "interpreter": installed_interpreter(),
        "batch": 1,
        "threads": 1,
        "n": len(images.labels),
        "models": models,
        "warnings": warnings_of(models),
    }


def _affordable(images: AttackedImages, latencies: Mapping[str, Mapping[str, float]]) -> int:
    """Number of images that can be measured within the time limit."""
    seconds_per_image = sum(latency["median"] for latency in latencies.values()) / 1000
    return max(_FEWEST_IMAGES, round(_SECONDS / (seconds_per_image * (1 + len(images.attacked)))))


def predict_all(predict: Predict, images: AttackedImages) -> Probabilities:
    """Predict the images before and after each attack."""
    attacked = {name: predict(after) for name, after in images.attacked.items()}
    return Probabilities(predict(images.images), attacked)


def accuracies(probabilities: Probabilities, labels: np.ndarray) -> dict[str, Any]:
    """Compute the clean accuracy, and the accuracy under each attack.

    Args:
        probabilities: Predictions of a model.
        labels: True classes [n].

    Returns:
        `clean`, `attacks` and `worst_case` as in report.json, with 95% intervals.
    """
    correct = probabilities.clean.argmax(axis=1) == labels
    surviving = {
        name: correct & (attacked.argmax(axis=1) == labels)
        for name, attacked in probabilities.attacked.items()
    }
    return {
        "clean": proportion(correct),
        "attacks": [{"name": name, **proportion(still)} for name, still in surviving.items()],
        "worst_case": proportion(np.logical_and.reduce([correct, *surviving.values()])),
    }


def agreement(expected: np.ndarray, got: np.ndarray) -> dict[str, float]:
    """Compare the predictions of two models.

    Args:
        expected: Probabilities of the Keras model, [n, classes].
        got: Probabilities of the exported model.

    Returns:
        The share of images with the same class, and the largest difference of probabilities.

    Example:
        >>> agreement(np.float32([[0.25, 0.75]]), np.float32([[0.5, 0.5]]))
        {'same_class': 0.0, 'largest_difference': 0.25}
    """
    same = expected.argmax(axis=1) == got.argmax(axis=1)
    return {
        "same_class": float(np.mean(same)),
        "largest_difference": float(np.max(np.abs(expected - got))),
    }


def warnings_of(models: list[dict[str, Any]]) -> list[str]:
    """List accuracies of exported models that are below the Keras model's 95% interval.

    Args:
        models: Entries of the report, "keras" first.

    Returns:
        One line for each such accuracy.
    """
    reference, *others = models
    before = _by_name(reference)
    return [
        f"{model['name']} lost accuracy ({name}): {100 * result['accuracy']:.2f}%, where the "
        f"Keras model has {100 * before[name]['accuracy']:.2f}% (95% interval from "
        f"{100 * before[name]['ci95'][0]:.2f}%)"
        for model in others
        for name, result in _by_name(model).items()
        if result["accuracy"] < before[name]["ci95"][0]
    ]


def _by_name(model: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    attacks = {attack["name"]: attack for attack in model["attacks"]}
    return {"clean": model["clean"], **attacks, "worst case": model["worst_case"]}


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    paths = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in paths)


def _of_keras(classifier: keras.Model) -> Predict:
    return _in_batches(lambda images: tf.nn.softmax(classifier(images, training=False)))


def _of_savedmodel(folder: Path) -> Predict:
    loaded = load_savedmodel(folder)
    # The signature alone doesn't keep the loaded object alive.
    return _in_batches(lambda images: loaded.signatures["image"](image=images)["probabilities"])


def _of_tflite(path: Path) -> Predict:
    classifier = Classifier(path)
    return lambda images: np.stack([classifier.classify(image) for image in images])


def _in_batches(classifier: Callable[[tf.Tensor], tf.Tensor]) -> Predict:
    def predict(images: np.ndarray) -> np.ndarray:
        parts = [images[i : i + _BATCH] for i in range(0, len(images), _BATCH)]
        return np.concatenate([classifier(tf.constant(part)).numpy() for part in parts])

    return predict
