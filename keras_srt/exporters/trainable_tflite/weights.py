"""Weights by names that are the same in Keras and on the device."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.core.tensorflow import keras, tf, tf_variable


def weights_by_name(classifier: keras.Model) -> dict[str, tf.Variable]:
    """Map names that depend only on the architecture to the weights of a classifier.

    Keras' own layer names contain a counter, so that a model built twice has different names.

    Args:
        classifier: A built model.

    Returns:
        For example `{"layer_02_kernel": …, "layer_02_bias": …}`, with the index of the layer.
    """
    return {
        f"layer_{place:02}_{weight.name.split('/')[-1].split(':')[0]}": tf_variable(weight)
        for place, layer in enumerate(classifier.layers)
        for weight in layer.weights
    }


def assign_weights(classifier: keras.Model, state: Mapping[str, np.ndarray]) -> None:
    """Assign weights that were trained on a device to a Keras classifier.

    Args:
        classifier: The exported classifier, or one of the same architecture.
        state: Arrays by name, as `keras_srt.device.weights.load_weights` returns them; velocities
            are ignored.

    Raises:
        UserError: The state belongs to another architecture; nothing was changed.
    """
    named = weights_by_name(classifier)
    wrong = [
        name
        for name, weight in named.items()
        if name not in state or state[name].shape != tuple(weight.shape)
    ]
    if wrong:
        raise UserError(
            f"weights: {wrong[0]} is missing or of another shape; allowed: those of the same "
            "architecture"
        )
    for name, weight in named.items():
        weight.assign(state[name])
