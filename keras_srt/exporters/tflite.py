"""TFLite exporter for devices: float32, float16, dynamic-range and int8 files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_srt.core.progress import ProgressBar
from keras_srt.core.stderr_filter import filter_stderr
from keras_srt.core.tensorflow import keras, tf, tf_variable
from keras_srt.device import Classifier
from keras_srt.device.model_file import LABELS, BadModel, add_labels, labels_text
from keras_srt.exporters.agreement import check_agreement
from keras_srt.exporters.model_versions import publishing

# Log lines that the converter writes for every model.
CONVERTER_NOISE = (
    r"Ignored (output_format|drop_control_dependency|change_concat_input_ranges)"
    r"|MLIR V1 optimization pass is not enabled"
    r"|Reading SavedModel from|Reading meta graph with tags|Restoring SavedModel bundle"
    r"|Running initialization op|SavedModel load for tags|disabling MLIR crash reproducer"
    r"|Starting new session|Number of (eligible )?GPUs|devices: \d+"
    r"|Reading SavedModel debug info|Estimated count of arithmetic ops"
    r"|Skipping runtime version metadata in the model"
    r"|^fully_quantize: \d+, inference_type"
    # The table of operations that need no conversion.
    r"|Summary on the non-converted ops|^-+$|^ \* (Accepted dialects|Non-Converted Ops|\d+ \w+ ops)"
    r"|^- [\w.]+: +\d+ occurrences|^ +\(\w*: \d+\)$|^\s*$"
)


class Quantization(NamedTuple):
    """A quantization scheme, with the required agreement with the Keras model.

    Attributes:
        name: Part of the file name, `model_<name>.tflite`.
        max_difference: Largest allowed difference in probability; a file beyond it is an error.
            1 for schemes whose rounding is coarse by design.
        min_agreement: Smallest allowed fraction of images with the class of the Keras model; a
            file below it is not published.
    """

    name: str
    max_difference: float
    min_agreement: float


QUANTIZATIONS = (
    # Only the order of float32 additions differs.
    Quantization("float32", 1e-5, 0.0),
    # 11-bit weights have a relative error of 5e-4: 0.01 for a logit around 20.
    Quantization("float16", 1e-2, 0.0),
    # 8-bit weights, and 8-bit activations in int8: a defect shows in the predicted classes.
    Quantization("dynamic", 1.0, 0.9),
    Quantization("int8", 1.0, 0.9),
)
# Classes whose Keras probabilities differ by at most this count as the same: 8 bits can't rank
# them.
_TIE = 0.05


class TfliteFile(NamedTuple):
    """The agreement of a file with the Keras model.

    Attributes:
        name: Name of the quantization.
        difference: Largest difference in probability; 1 if the file can't be run.
        share: Fraction of images with the class of the Keras model; 0 if the file can't be run.
        published: Whether the file was published; False if it disagrees or can't be run.
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
    """Publish `folder/version/` with `model_<quantization>.tflite` and `labels.txt`.

    Each model takes float32 [1, height, width, channels] in [0, 1] and returns probabilities,
    float32 [1, classes]. The files also contain the labels.

    Args:
        classifier: Keras model, images -> logits.
        class_names: Class names in the order of their ids.
        folder: `saved_models/<name>/tflite`.
        version: An unused version number.
        samples: Images float32 [n, height, width, channels] on which the files are compared with
            the classifier.
        calibration: Training images, of the same shape, for the activation ranges of the int8
            file; by default the samples.

    Returns:
        The folder, and the agreement of each file.

    Raises:
        UserError: The version exists, or the folder can't be written.
        RuntimeError: A file doesn't agree with the classifier.
    """
    with publishing(folder, version) as draft:
        files = write_tflite(classifier, class_names, draft, samples, calibration)
    return folder / str(version), files


def write_tflite(
    classifier: keras.Model,
    class_names: Sequence[str],
    folder: Path,
    samples: np.ndarray,
    calibration: np.ndarray | None = None,
) -> tuple[TfliteFile, ...]:
    """Write the files that `export_tflite` publishes to an existing folder.

    Args:
        classifier: See `export_tflite`.
        class_names: See `export_tflite`.
        folder: An existing folder.
        samples: See `export_tflite`.
        calibration: See `export_tflite`.

    Returns:
        The agreement of each file.

    Raises:
        RuntimeError: A file doesn't agree with the classifier.
    """
    calibration = samples if calibration is None else calibration
    expected = tf.nn.softmax(classifier(tf.constant(samples), training=False)).numpy()
    (folder / LABELS).write_text(labels_text(class_names), encoding="utf-8")
    files = []
    for quantization in QUANTIZATIONS:
        path = folder / f"model_{quantization.name}.tflite"
        with ProgressBar(f"TFLite, {quantization.name}"):
            with filter_stderr(CONVERTER_NOISE):
                path.write_bytes(_convert(classifier, quantization.name, calibration))
            add_labels(path, class_names)
            file = _check(quantization, expected, path, samples)
        if not file.published:
            path.unlink()
        files.append(file)
    return tuple(files)


def _convert(classifier: keras.Model, quantization: str, calibration: np.ndarray) -> bytes:
    # A static batch size of 1, because some interpreters (LiteRT.js) refuse a dynamic one.
    images = tf.TensorSpec((1, *classifier.input_shape[1:]), tf.float32, name="images")

    @tf.function(input_signature=[images], autograph=False)
    def probabilities(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.nn.softmax(classifier(images, training=False))}

    # With the Keras model instead, each of its layers would be traced and saved, too.
    holder = tf.Module()
    holder.weights = [tf_variable(weight) for weight in classifier.variables]
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [probabilities.get_concrete_function()], holder
    )
    if quantization != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([image[None]] for image in calibration)
    return converter.convert()


def _check(
    quantization: Quantization, expected: np.ndarray, path: Path, samples: np.ndarray
) -> TfliteFile:
    """Run a file and compare it; a quantized file that the interpreter refuses disagrees.

    Newer interpreters refuse int8 files with a layer that always outputs 0, because the scale of
    its values is too small relative to that of the previous layer.
    """
    try:
        actual = tflite_probabilities(path, samples)
    except BadModel:
        if not quantization.min_agreement:
            raise
        return TfliteFile(quantization.name, 1.0, 0.0, False)
    return _compare(quantization, expected, actual)


def _compare(quantization: Quantization, expected: np.ndarray, actual: np.ndarray) -> TfliteFile:
    """Compare probabilities of the Keras model and of a file, [n, classes] each."""
    difference = check_agreement(
        f"TFLite, {quantization.name}", expected, actual, quantization.max_difference
    )
    predicted = np.take_along_axis(expected, actual.argmax(axis=1)[:, None], axis=1)[:, 0]
    share = float(np.mean(predicted >= expected.max(axis=1) - _TIE))
    return TfliteFile(quantization.name, difference, share, share >= quantization.min_agreement)


def tflite_probabilities(path: Path, images: np.ndarray) -> np.ndarray:
    """Run a TFLite classifier on images with batch size 1, as on a device.

    Args:
        path: The file.
        images: Images float32 [n, height, width, channels] in [0, 1].

    Returns:
        Probabilities, float32 [n, classes].
    """
    return np.stack(list(map(Classifier(path, interpreter="tensorflow").classify, images)))
