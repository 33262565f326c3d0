"""The names that weights have on the device, and the way back into a Keras classifier."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.core.tensorflow import keras, tf


def weights_by_name(classifier: keras.Model) -> dict[str, tf.Variable]:
    """All weights of a classifier by names that depend on its architecture alone.

    The names that Keras gives layers count up within a process: the same model built a
    second time has others.

    Args:
        classifier: a built model.

    Returns:
        Such as `{"layer_02_kernel": …, "layer_02_bias": …}`; the number is the layer's place.
    """
    return {
        f"layer_{place:02}_{weight.name.split('/')[-1].split(':')[0]}": weight
        for place, layer in enumerate(classifier.layers)
        for weight in layer.weights
    }


def assign_weights(classifier: keras.Model, state: Mapping[str, np.ndarray]) -> None:
    """Gives a Keras classifier the weights that were learned on a device.

    Args:
        classifier: the one that was exported, or one of the same architecture.
        state: as `keras_srt.device.weights.load_weights` reads it; velocities are left out.

    Raises:
        UserError: the state is another classifier's; nothing changed.
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
