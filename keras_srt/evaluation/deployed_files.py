"""Compares what was published with the Keras model: the `deployment` part of report.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_srt.core.tensorflow import keras, tf
from keras_srt.device.classify import Classifier, installed_interpreter
from keras_srt.evaluation.attacked_images import Attacked
from keras_srt.evaluation.latency import measure_latency
from keras_srt.evaluation.runner import proportion
from keras_srt.exporters.tflite import QUANTIZATIONS

_BATCH = 100
# What the comparison may take; with a slow model it looks at fewer images.
_SECONDS = 60.0
_FEWEST_IMAGES = 50

Answer = Callable[[np.ndarray], np.ndarray]


class Answers(NamedTuple):
    """Probabilities that a model gives, [n, classes].

    Attributes:
        clean: for the untampered images.
        found: for those of each attack, by its name.
    """

    clean: np.ndarray
    found: Mapping[str, np.ndarray]


def measure(
    classifier: keras.Model, savedmodel: Path, tflite: Path, attacked: Attacked
) -> dict[str, Any]:
    """Measures a published version.

    Args:
        classifier: the Keras model that was exported, images -> logits.
        savedmodel: folder of the version.
        tflite: folder of its .tflite files.
        attacked: test images, and what attacks on the Keras model made of them.

    Returns:
        The part `deployment` of report.json: for "keras", "savedmodel" and each .tflite
        file its accuracies, and for the files also size, latency and agreement.
    """
    files = {kind.name: tflite / f"model_{kind.name}.tflite" for kind in QUANTIZATIONS}
    files = {name: path for name, path in files.items() if path.is_file()}
    latencies = measure_latency(savedmodel, files, attacked.images[0])
    attacked = attacked.first(_affordable(attacked, latencies))
    reference = answers_of(_of_keras(classifier), attacked)
    runners = {"savedmodel": _of_savedmodel(savedmodel)}
    runners |= {name: _of_tflite(path) for name, path in files.items()}
    models = [{"name": "keras", **accuracies(reference, attacked.labels)}]
    for name, run in runners.items():
        answers = answers_of(run, attacked)
        models.append(
            {
                "name": name,
                "bytes": _size(files.get(name, savedmodel)),
                "latency_ms": latencies[name],
                "agreement": agreement(reference.clean, answers.clean),
                **accuracies(answers, attacked.labels),
            }
        )
    return {
        "version": int(savedmodel.name),
        "interpreter": installed_interpreter(),
        "batch": 1,
        "threads": 1,
        "n": len(attacked.labels),
        "models": models,
        "warnings": warnings_of(models),
    }


def _affordable(attacked: Attacked, latencies: Mapping[str, Mapping[str, float]]) -> int:
    """How many images the files can answer in the time for it."""
    of_an_image = sum(latency["median"] for latency in latencies.values()) / 1000
    return max(_FEWEST_IMAGES, round(_SECONDS / (of_an_image * (1 + len(attacked.found)))))


def answers_of(run: Answer, attacked: Attacked) -> Answers:
    """Asks a model about the images before and after each attack."""
    found = {name: run(images) for name, images in attacked.found.items()}
    return Answers(run(attacked.images), found)


def accuracies(answers: Answers, labels: np.ndarray) -> dict[str, Any]:
    """Shares of images that are right without tampering, and before and after attacks.

    Args:
        answers: of a model.
        labels: true class ids [n].

    Returns:
        `clean`, `attacks` and `worst_case` as in report.json, with 95% intervals.
    """
    right = answers.clean.argmax(axis=1) == labels
    still = {
        name: right & (probabilities.argmax(axis=1) == labels)
        for name, probabilities in answers.found.items()
    }
    return {
        "clean": proportion(right),
        "attacks": [{"name": name, **proportion(kept)} for name, kept in still.items()],
        "worst_case": proportion(np.logical_and.reduce([right, *still.values()])),
    }


def agreement(expected: np.ndarray, got: np.ndarray) -> dict[str, float]:
    """How closely two models answer alike.

    Args:
        expected: probabilities of the Keras model, [n, classes].
        got: those of the other one.

    Returns:
        The share of images with the same class, and the largest difference in probability.

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
    """Names what a file lost: an accuracy below the 95% interval of the Keras model's.

    Args:
        models: as in the report, "keras" first.

    Returns:
        One line for each loss.
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


def _of_keras(classifier: keras.Model) -> Answer:
    return _in_batches(lambda images: tf.nn.softmax(classifier(images, training=False)))


def _of_savedmodel(folder: Path) -> Answer:
    loaded = tf.saved_model.load(str(folder))
    # The signature doesn't hold on to what was loaded.
    return _in_batches(lambda images: loaded.signatures["image"](image=images)["probabilities"])


def _of_tflite(path: Path) -> Answer:
    classifier = Classifier(path)
    return lambda images: np.stack([classifier.classify(image) for image in images])


def _in_batches(answer: Callable[[tf.Tensor], tf.Tensor]) -> Answer:
    def run(images: np.ndarray) -> np.ndarray:
        parts = [images[i : i + _BATCH] for i in range(0, len(images), _BATCH)]
        return np.concatenate([answer(tf.constant(part)).numpy() for part in parts])

    return run
