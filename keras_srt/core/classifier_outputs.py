"""Logits of classifiers that output something else: probabilities, or sigmoids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_srt.core.tensorflow import keras, tf

# Activations that keep the order of the classes: without them, the predictions are the same.
_MONOTONIC = ("softmax", "sigmoid")
# Smallest probability before the logarithm: float32's smallest normal number.
FLOOR = float(np.finfo(np.float32).tiny)


def last_layer(classifier: Any) -> Any:
    """Layer that makes the outputs of a Keras model; None if the model doesn't tell."""
    layer = getattr(classifier, "inference_model", classifier)
    while isinstance(layer, keras.Model):
        if isinstance(layer, keras.Sequential):
            layer = layer.layers[-1] if layer.layers else None
            continue
        try:
            (name,) = layer.output_names
            layer = layer.get_layer(name)
        except (AttributeError, TypeError, ValueError):  # a subclass, or several outputs
            return None
    return layer


def last_activation(classifier: Any) -> str | None:
    """Name of the last activation of a Keras model if it is "softmax" or "sigmoid", else None.

    Example:
        >>> last_activation(keras.Sequential([keras.layers.Dense(3, activation="softmax")]))
        'softmax'
    """
    layer = last_layer(classifier)
    if isinstance(layer, keras.layers.Softmax):
        return "softmax" if layer.axis in (-1, 1) else None
    name = getattr(getattr(layer, "activation", None), "__name__", None)
    return name if name in _MONOTONIC else None


def without_last_activation(classifier: Callable[..., Any]) -> Callable[..., Any]:
    """Return the logits of a Keras model that ends with a softmax or sigmoids.

    Where a softmax rounds to 0 and 1, its gradient is 0; that of the logits is not. The model
    isn't changed: its last layer goes without activation only while it is called.

    Args:
        classifier: Any classifier; without such an activation, it is returned itself.
    """
    if last_activation(classifier) is None:
        return classifier
    layer = last_layer(classifier)
    name = "call" if isinstance(layer, keras.layers.Softmax) else "activation"

    def logits(*args: Any, **kwargs: Any) -> Any:
        before = getattr(layer, name)
        setattr(layer, name, lambda inputs, *_, **__: inputs)
        try:
            return classifier(*args, **kwargs)
        finally:
            setattr(layer, name, before)

    return logits


def are_probabilities(rows: np.ndarray, rounding: float = 1e-3) -> bool:
    """Whether all rows of outputs [n, classes] are distributions over the classes.

    Args:
        rows: The outputs.
        rounding: Largest difference of the sum of a row from 1.

    Example:
        >>> are_probabilities(np.float32([[0.25, 0.75], [1, 0]]))
        True
    """
    in_range = rows.min() >= 0 and rows.max() <= 1.001
    return bool(in_range and np.allclose(rows.sum(axis=1), 1.0, atol=rounding))


def log_probabilities(classifier: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return log(max(p, 1.2e-38)): the same cross-entropy as the logits down to -87.3.

    Args:
        classifier: Images to probabilities, as tensors.
    """
    return lambda images: tf.math.log(tf.maximum(tf.cast(classifier(images), tf.float32), FLOOR))
