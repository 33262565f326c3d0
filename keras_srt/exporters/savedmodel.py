"""SavedModel exporter for TF Serving, with signatures that tolerate invalid input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_srt.core.classifier_outputs import last_activation
from keras_srt.core.errors import UserError
from keras_srt.core.model_loading import load_savedmodel
from keras_srt.core.stderr_filter import filter_stderr
from keras_srt.core.tensorflow import keras, tf, tf_variable
from keras_srt.device.model_file import labels_text
from keras_srt.exporters.agreement import check_agreement
from keras_srt.exporters.graph_decoding import MAX_BATCH, decode_images
from keras_srt.exporters.model_versions import publishing
from keras_srt.exporters.warmup import WarmupRequest, replay_warmup, write_warmup

LABELS_FILE = Path("assets", "labels.txt")

_TOLERANCE = 1e-5
_CHANNELS = (1, 3)
_WARMUP_IMAGES = 8
# TensorFlow logs the path of the labels, which is that of the draft.
_SAVING_NOISE = r"Assets written to"


def export_savedmodel(
    classifier: keras.Model,
    class_names: Sequence[str],
    folder: Path,
    version: int,
    samples: np.ndarray,
) -> tuple[Path, float]:
    """Publish `folder/version/`, a SavedModel that TF Serving loads directly.

    Signatures (the first two accept 1 to 1,024 images per request):

    - `serving_default` takes `image_bytes`, PNG or JPEG strings [batch], which are resized to
      the input size of the model. An unreadable image has `valid` false;
      `keras_srt.exporters.graph_decoding` lists the exceptions.
    - `image` takes `image`, float32 [batch, height, width, channels]. A wrong shape is an
      error; an image with NaN or values outside [0, 1] has `valid` false.
    - `logits` takes `images`, float32, and returns `logits`, for attacks: the gradient of a
      saturated softmax is 0.

    The first two return `probabilities` [batch, classes], `class_id`, `class_name`, `score`
    (the probability of the predicted class) and `valid` [batch], and `classes` (all names)
    [batch, classes]. For an invalid image, probabilities and score are 0, the id is -1 and the
    name is empty.

    Args:
        classifier: Keras model, images -> logits; 1 or 3 channels.
        class_names: Class names in the order of their ids.
        folder: `saved_models/<name>`.
        version: An unused version number.
        samples: Images float32 [n, height, width, channels] in [0, 1] on which the SavedModel is
            compared with the classifier.

    Returns:
        The folder, and the largest difference in probability over the samples.

    Raises:
        UserError: The version exists, the folder can't be written, or model, names and samples
            don't match.
        RuntimeError: The SavedModel doesn't agree with the classifier.
    """
    with publishing(folder, version) as draft:
        difference = write_savedmodel(classifier, class_names, draft, samples)
    return folder / str(version), difference


def write_savedmodel(
    classifier: keras.Model, class_names: Sequence[str], folder: Path, samples: np.ndarray
) -> float:
    """Write the files that `export_savedmodel` publishes to an existing folder.

    Args:
        classifier: See `export_savedmodel`.
        class_names: See `export_savedmodel`.
        folder: An existing, empty folder.
        samples: See `export_savedmodel`.

    Returns:
        The largest difference in probability over the samples.

    Raises:
        UserError: Model, names and samples don't match.
        RuntimeError: The SavedModel doesn't agree with the classifier.
    """
    _check(classifier, class_names, samples)
    labels = folder / LABELS_FILE
    labels.parent.mkdir()
    labels.write_text(labels_text(class_names), encoding="utf-8")
    module = _serving_module(classifier, list(class_names), labels)
    signatures = {
        "serving_default": module.serve_bytes,
        "image": module.serve_image,
        "logits": module.logits,
    }
    with filter_stderr(_SAVING_NOISE):
        tf.saved_model.save(module, str(folder), signatures=signatures)
    pixels = np.uint8(np.round(samples[:_WARMUP_IMAGES] * 255.0))
    pngs = np.array([tf.io.encode_png(image).numpy() for image in pixels], object)
    requests = [
        WarmupRequest("serving_default", {"image_bytes": pngs}),
        WarmupRequest("image", {"image": np.float32(samples[:_WARMUP_IMAGES])}),
    ]
    write_warmup(folder, requests)
    return _compare(classifier, folder, samples, np.float32(pixels / 255.0))


def _check(classifier: keras.Model, class_names: Sequence[str], samples: np.ndarray) -> None:
    """Check that model, names and samples match."""
    shape, classes = tuple(classifier.input_shape[1:]), classifier.output_shape[-1]
    activation = last_activation(classifier)
    if activation is not None:
        raise UserError(
            f"classifier: ends with {activation}; allowed: logits, or `keras_srt.export`, which "
            "removes it"
        )
    if len(shape) != 3 or shape[2] not in _CHANNELS:
        raise UserError(
            f"classifier: takes inputs of shape {shape}; allowed: (height, width, channels) with "
            f"{_CHANNELS[0]} or {_CHANNELS[1]} channels, as in PNG and JPEG images"
        )
    if len(class_names) != classes:
        raise UserError(f"class_names: got {len(class_names)}; the classifier has {classes}")
    if samples.shape[1:] != shape or not len(samples):
        raise UserError(f"samples: got shape {samples.shape}; allowed: at least one of {shape}")
    if not (samples.min() >= 0 and samples.max() <= 1):
        raise UserError(
            f"samples: got values from {samples.min():g} to {samples.max():g}; allowed: from 0 to "
            "1 (divide 8-bit images by 255)"
        )


def _compare(
    classifier: keras.Model, folder: Path, samples: np.ndarray, decoded: np.ndarray
) -> float:
    """Load the SavedModel, replay the warm-up requests, and compare with the classifier.

    Args:
        classifier: Keras model, images -> logits.
        folder: Folder of the SavedModel.
        samples: Images, float32.
        decoded: Content of the PNGs in the first warm-up request, float32.

    Returns:
        The largest difference in probability.
    """

    def difference(images: np.ndarray, outputs: dict[str, np.ndarray]) -> float:
        expected = tf.nn.softmax(classifier(tf.constant(images), training=False)).numpy()
        return check_agreement("SavedModel", expected, outputs["probabilities"], _TOLERANCE)

    loaded = load_savedmodel(folder)
    of_bytes, of_floats = replay_warmup(folder, loaded.signatures)
    images = tf.constant(samples[:MAX_BATCH])
    return max(
        difference(decoded, of_bytes),
        difference(samples[:_WARMUP_IMAGES], of_floats),
        difference(samples[:MAX_BATCH], loaded.signatures["image"](image=images)),
    )


def _serving_module(classifier: keras.Model, names: list[str], labels: Path) -> tf.Module:
    shape = tuple(classifier.input_shape)
    encoded = tf.TensorSpec([None], tf.string, name="image_bytes")

    def classify(images: tf.Tensor, readable: tf.Tensor) -> dict[str, tf.Tensor]:
        # Invalid images are replaced by black ones, because NaN would propagate.
        images = tf.where(readable[:, None, None, None], images, 0.0)
        probabilities = tf.nn.softmax(classifier(images, training=False))
        finite = tf.reduce_all(tf.math.is_finite(probabilities), axis=-1)
        return _outputs(probabilities, readable & finite, names)

    class ServingModule(tf.Module):
        """Holds only the weights: with the Keras model, its layers would be saved twice."""

        def __init__(self) -> None:
            super().__init__()
            self.weights = [tf_variable(weight) for weight in classifier.variables]
            self.labels = tf.saved_model.Asset(str(labels))

        # `tf.function` requires that the first argument is called `self`.
        @tf.function(input_signature=[encoded], autograph=False)
        def serve_bytes(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            image_bytes = _check_count(tf.ensure_shape(image_bytes, [None]))
            return classify(*decode_images(image_bytes, shape[1:]))

        @tf.function(input_signature=[tf.TensorSpec(shape, name="image")], autograph=False)
        def serve_image(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
            # Servers don't check shapes, and a wrong shape can crash a kernel.
            image = _check_count(tf.ensure_shape(image, shape))
            # Comparisons with NaN are false.
            in_range = tf.reduce_all((image >= 0.0) & (image <= 1.0), axis=[1, 2, 3])
            return classify(image, in_range)

        @tf.function(input_signature=[tf.TensorSpec(shape, name="images")], autograph=False)
        def logits(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
            images = tf.ensure_shape(images, shape)
            return {"logits": classifier(images, training=False)}

    return ServingModule()


def _check_count(images: tf.Tensor) -> tf.Tensor:
    """Return the images unchanged if there are 1 to `MAX_BATCH`; some kernels crash on 0."""
    count = tf.shape(images)[0]
    message = f"a request must have from 1 to {MAX_BATCH} images; got"
    in_range = tf.debugging.Assert((count >= 1) & (count <= MAX_BATCH), [message, count])
    with tf.control_dependencies([in_range]):
        return tf.identity(images)


def _outputs(probabilities: tf.Tensor, valid: tf.Tensor, names: list[str]) -> dict[str, tf.Tensor]:
    """Make the outputs of both signatures, batch first, as TF Serving's row format requires."""
    probabilities = tf.where(valid[:, None], probabilities, 0.0)
    class_id = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
    return {
        "probabilities": probabilities,
        "class_id": tf.where(valid, class_id, -1),
        "class_name": tf.where(valid, tf.gather(tf.constant(names), class_id), ""),
        "score": tf.reduce_max(probabilities, axis=-1),
        "valid": valid,
        "classes": tf.tile(tf.constant([names]), [tf.size(valid), 1]),
    }
