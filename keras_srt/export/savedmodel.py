"""SavedModel for TF Serving."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_srt.export.publish import check_agreement, published
from keras_srt.lazy import keras, tf

_TOLERANCE = 1e-5


def export_savedmodel(
    classifier: keras.Model,
    class_names: Sequence[str],
    folder: Path,
    version: int,
    samples: np.ndarray,
) -> tuple[Path, float]:
    """Publishes `folder/version/`, which TF Serving loads as it is.

    The signature `serving_default` takes `images`, float32 [batch, height, width,
    channels] in [0, 1], and gives `probabilities`, `class_id` and `class_name`; images of
    another shape are refused by an error. `logits` takes the same and gives `logits`, for
    attacks, which need gradients that a softmax may swallow.

    Args:
        classifier: images -> logits.
        class_names: in the order of their ids.
        folder: `saved_models/<name>`.
        version: a free whole number.
        samples: float32 images on which the export is compared with the classifier.

    Returns:
        The folder, and the largest difference in probability over the samples.

    Raises:
        UserError: the version exists, or the folder can't be written.
        RuntimeError: the export doesn't answer as the classifier does.
    """
    module = _serving_module(classifier, class_names)
    expected = tf.nn.softmax(classifier(tf.constant(samples), training=False)).numpy()
    with published(folder, version) as draft:
        tf.saved_model.save(
            module,
            str(draft),
            signatures={"serving_default": module.serve, "logits": module.logits},
        )
        serve = tf.saved_model.load(str(draft)).signatures["serving_default"]
        got = serve(images=tf.constant(samples))["probabilities"].numpy()
        difference = check_agreement("SavedModel", expected, got, _TOLERANCE)
    return folder / str(version), difference


def _serving_module(classifier: keras.Model, class_names: Sequence[str]) -> tf.Module:
    shape = tuple(classifier.input_shape)
    # The size stays open in the signature: the check has to happen inside, because a
    # server passes any size on, and a wrong one can crash a kernel.
    signature = [tf.TensorSpec([None] * len(shape), tf.float32, name="images")]
    names = list(class_names)

    class ServingModule(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = classifier

        @tf.function(input_signature=signature, autograph=False)
        def logits(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
            images = tf.ensure_shape(images, shape)
            return {"logits": self.classifier(images, training=False)}

        @tf.function(input_signature=signature, autograph=False)
        def serve(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
            probabilities = tf.nn.softmax(self.logits(images)["logits"])
            class_id = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
            return {
                "probabilities": probabilities,
                "class_id": class_id,
                "class_name": tf.gather(tf.constant(names), class_id),
            }

    return ServingModule()
