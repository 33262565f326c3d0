"""TFLite for terminal devices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_srt.export.publish import check_agreement, published
from keras_srt.lazy import keras, tf
from keras_srt.noise import without_lines

_TOLERANCE = 1e-5
MODEL_FILE = "model_float32.tflite"
LABELS_FILE = "labels.txt"

# What the converter and the interpreter say each time, whatever they are given.
_CONVERTER_NOISE = (
    r"Ignored (output_format|drop_control_dependency|change_concat_input_ranges)"
    r"|Created TensorFlow Lite XNNPACK delegate"
    r"|MLIR V1 optimization pass is not enabled"
    r"|Reading SavedModel from|Reading meta graph with tags|Restoring SavedModel bundle"
    r"|Running initialization op|SavedModel load for tags|disabling MLIR crash reproducer"
    r"|Starting new session|Number of (eligible )?GPUs|devices: \d+"
    r"|Reading SavedModel debug info|Estimated count of arithmetic ops"
    # Its table of the operations that need no conversion.
    r"|Summary on the non-converted ops|^-+$|^ \* (Accepted dialects|Non-Converted Ops|\d+ \w+ ops)"
    r"|^- \w+\.\w+: +\d+ occurrences|^ +\(\w+: \d+\)$|^\s*$"
)


def export_tflite(
    classifier: keras.Model,
    class_names: Sequence[str],
    folder: Path,
    version: int,
    samples: np.ndarray,
) -> tuple[Path, float]:
    """Publishes `folder/version/` with `model_float32.tflite` and `labels.txt`.

    The model takes float32 [1, height, width, channels] in [0, 1] and gives
    probabilities [1, classes]; line i of `labels.txt` names class i.

    Args:
        classifier: images -> logits.
        class_names: in the order of their ids.
        folder: `saved_models/<name>/tflite`.
        version: a free whole number.
        samples: float32 images on which the file is compared with the classifier.

    Returns:
        The folder, and the largest difference in probability over the samples.

    Raises:
        UserError: the version exists, or the folder can't be written.
        RuntimeError: the file doesn't answer as the classifier does.
    """
    expected = tf.nn.softmax(classifier(tf.constant(samples), training=False)).numpy()
    with published(folder, version) as draft, without_lines(_CONVERTER_NOISE):
        content = _convert(classifier)
        (draft / MODEL_FILE).write_bytes(content)
        lines = [" ".join(name.splitlines()) for name in class_names]
        (draft / LABELS_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
        got = tflite_probabilities(draft / MODEL_FILE, samples)
        difference = check_agreement("TFLite", expected, got, _TOLERANCE)
    return folder / str(version), difference


def _convert(classifier: keras.Model) -> bytes:
    shape = (1, *classifier.input_shape[1:])

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="images")])
    def probabilities(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.nn.softmax(classifier(images, training=False))}

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [probabilities.get_concrete_function()], classifier
    )
    return converter.convert()


def tflite_probabilities(path: Path, images: np.ndarray) -> np.ndarray:
    """Runs a TFLite classifier on images, one after the other.

    Args:
        path: the file.
        images: float32 [n, height, width, channels] in [0, 1].

    Returns:
        Probabilities, float32 [n, classes].
    """
    interpreter = tf.lite.Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    answer = interpreter.get_output_details()[0]["index"]
    rows = []
    for image in images:
        interpreter.set_tensor(source, image[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(answer)[0].copy())
    return np.stack(rows)
