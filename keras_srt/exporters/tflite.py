"""TFLite for terminal devices: the same classifier in four sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_srt.core.stderr_filter import filter_stderr
from keras_srt.core.tensorflow import keras, tf
from keras_srt.device import Classifier
from keras_srt.device.model_file import LABELS, BadModel, add_labels, labels_text
from keras_srt.exporters.model_versions import check_agreement, published

# What the converter says each time, whatever it is given.
CONVERTER_NOISE = (
    r"Ignored (output_format|drop_control_dependency|change_concat_input_ranges)"
    r"|MLIR V1 optimization pass is not enabled"
    r"|Reading SavedModel from|Reading meta graph with tags|Restoring SavedModel bundle"
    r"|Running initialization op|SavedModel load for tags|disabling MLIR crash reproducer"
    r"|Starting new session|Number of (eligible )?GPUs|devices: \d+"
    r"|Reading SavedModel debug info|Estimated count of arithmetic ops"
    r"|Skipping runtime version metadata in the model"
    r"|^fully_quantize: \d+, inference_type"
    # Its table of the operations that need no conversion.
    r"|Summary on the non-converted ops|^-+$|^ \* (Accepted dialects|Non-Converted Ops|\d+ \w+ ops)"
    r"|^- [\w.]+: +\d+ occurrences|^ +\(\w*: \d+\)$|^\s*$"
)


class Quantization(NamedTuple):
    """A way to store the weights, and how closely such a file has to answer.

    Attributes:
        name: part of the file's name, `model_<name>.tflite`.
        largest: largest difference in probability from the Keras model; beyond it the file
            is defective. Where rounding is coarse by design there is no such bound.
        share: least share of images with the class of the Keras model; a file below it is
            left out.
    """

    name: str
    largest: float
    share: float


QUANTIZATIONS = (
    # The order of float32 additions is all that differs.
    Quantization("float32", 1e-5, 0.0),
    # Weights keep 11 bits, a relative 5e-4: with logits around 20, 0.01 in a logit.
    Quantization("float16", 1e-2, 0.0),
    # Weights keep 8 bits, and in int8 the activations too: a fault shows as answers that
    # have little to do with the model's.
    Quantization("dynamic", 1.0, 0.9),
    Quantization("int8", 1.0, 0.9),
)
# Answers whose probabilities the Keras model sets no further apart count as the same class:
# 8 bits can't rank them.
_TIE = 0.05


class TfliteFile(NamedTuple):
    """How a file was found to answer.

    Attributes:
        name: of the quantization.
        difference: largest difference in probability from the Keras model.
        share: share of the images with the class of the Keras model.
        published: whether it was; else it answers too differently, or not at all: then the
            share is 0, and the difference the largest there can be.
    """

    name: str
    difference: float
    share: float
    published: bool


def export_tflite(
    classifier: keras.Model,
    class_names: Sequence[str],
    folder: Path,
    version: int,
    samples: np.ndarray,
    calibration: np.ndarray | None = None,
) -> tuple[Path, tuple[TfliteFile, ...]]:
    """Publishes `folder/version/` with `model_<quantization>.tflite` and `labels.txt`.

    Each model takes float32 [1, height, width, channels] in [0, 1] and gives
    probabilities, float32 [1, classes]; the labels are inside the files, too.

    Args:
        classifier: images -> logits.
        class_names: in the order of their ids.
        folder: `saved_models/<name>/tflite`.
        version: a free whole number.
        samples: float32 images on which the files are compared with the classifier.
        calibration: float32 training images from which int8 learns the range of each
            activation; by default the samples.

    Returns:
        The folder, and what was found of each file.

    Raises:
        UserError: the version exists, or the folder can't be written.
        RuntimeError: a file doesn't answer as the classifier does.
    """
    with published(folder, version) as draft:
        files = write_tflite(classifier, class_names, draft, samples, calibration)
    return folder / str(version), files


def write_tflite(
    classifier: keras.Model,
    class_names: Sequence[str],
    folder: Path,
    samples: np.ndarray,
    calibration: np.ndarray | None = None,
) -> tuple[TfliteFile, ...]:
    """Writes what `export_tflite` publishes into a folder that exists; see there."""
    calibration = samples if calibration is None else calibration
    expected = tf.nn.softmax(classifier(tf.constant(samples), training=False)).numpy()
    (folder / LABELS).write_text(labels_text(class_names), encoding="utf-8")
    files = []
    for quantization in QUANTIZATIONS:
        path = folder / f"model_{quantization.name}.tflite"
        with filter_stderr(CONVERTER_NOISE):
            path.write_bytes(_convert(classifier, quantization.name, calibration))
        add_labels(path, class_names)
        file = _judge(quantization, expected, path, samples)
        if not file.published:
            path.unlink()
        files.append(file)
    return tuple(files)


def _convert(classifier: keras.Model, quantization: str, calibration: np.ndarray) -> bytes:
    # A batch of 1 that is static: LiteRT.js, for one, refuses a dynamic one.
    images = tf.TensorSpec((1, *classifier.input_shape[1:]), tf.float32, name="images")

    @tf.function(input_signature=[images], autograph=False)
    def probabilities(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.nn.softmax(classifier(images, training=False))}

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [probabilities.get_concrete_function()], classifier
    )
    if quantization != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([image[None]] for image in calibration)
    return converter.convert()


def _judge(
    quantization: Quantization, expected: np.ndarray, path: Path, samples: np.ndarray
) -> TfliteFile:
    """Judges a file; one that the interpreter refuses gives no answer that is right.

    Such is int8 of a layer that is always 0, as after a collapse: the scale of its values is
    next to nothing, and newer interpreters take no such ratio to the layer before.
    """
    try:
        got = tflite_probabilities(path, samples)
    except BadModel:
        if not quantization.share:
            raise
        return TfliteFile(quantization.name, 1.0, 0.0, False)
    return _compare(quantization, expected, got)


def _compare(quantization: Quantization, expected: np.ndarray, got: np.ndarray) -> TfliteFile:
    """Judges a file by its probabilities, [n, classes] both."""
    difference = check_agreement(
        f"TFLite, {quantization.name}", expected, got, quantization.largest
    )
    of_answer = np.take_along_axis(expected, got.argmax(axis=1)[:, None], axis=1)[:, 0]
    share = float(np.mean(of_answer >= expected.max(axis=1) - _TIE))
    return TfliteFile(quantization.name, difference, share, share >= quantization.share)


def tflite_probabilities(path: Path, images: np.ndarray) -> np.ndarray:
    """Runs a TFLite classifier on images, one after the other, as a device does.

    Args:
        path: the file.
        images: float32 [n, height, width, channels] in [0, 1].

    Returns:
        Probabilities, float32 [n, classes].
    """
    return np.stack(list(map(Classifier(path, interpreter="tensorflow").classify, images)))
