"""Frozen training: only the head of a classifier is trained, as usual with pretrained weights."""

from __future__ import annotations

from collections.abc import Callable

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import keras, tf


def head(classifier: keras.Model) -> keras.layers.Dense:
    """Return the head of a classifier, its last layer; all other layers are its backbone.

    Args:
        classifier: The classifier.

    Raises:
        InvalidSettings: The last layer isn't a Dense layer, or no other layer can be trained.

    Example:
        >>> from keras_srt.models import SmallCNN
        >>> head(SmallCNN().build((28, 28, 1), 10)).name
        'logits'
    """
    layers = getattr(classifier, "layers", [])
    last = layers[-1] if layers else classifier
    problem = None
    if not isinstance(last, keras.layers.Dense):
        problem = f"a classifier that ends with the layer {last.name!r} ({type(last).__name__})"
    elif classifier.built and len(classifier.trainable_weights) == len(last.trainable_weights):
        problem = "a classifier without trainable weights before its last layer"
    if problem:
        raise InvalidSettings(
            [
                f"training.freeze: got {problem}; allowed: 0, or a classifier with a backbone that "
                "ends with a Dense layer"
            ]
        )
    return last


def in_inference_mode(classifier: keras.Model) -> Callable[..., tf.Tensor]:
    """Return a classifier that ignores `training`, so that BatchNorm statistics stay the same."""
    return lambda images, training=False: classifier(images, training=False)
