"""Dropout whose draws are a function of (seed, step): a resumed training drops the same units."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from keras_srt.core.tensorflow import keras, tf


class Dropout(keras.layers.Dropout):
    """Keras' layer, and inside `drawing_from` with draws from a seed, others at each call.

    Keras' own generator is not saved with a checkpoint. It has Keras' name, so that files of
    weights fit both layers.

    Args:
        rate: share of the units that are dropped in training.
        **kwargs: those of Keras' layer.

    Example:
        >>> import tensorflow as tf
        >>> model = keras.Sequential([keras.Input((4,)), Dropout(0.5)])
        >>> with drawing_from(model, tf.constant([7, 0])):
        ...     first = model(tf.ones([2, 4]), training=True)
        >>> with drawing_from(model, tf.constant([7, 0])):
        ...     print(bool(tf.reduce_all(first == model(tf.ones([2, 4]), training=True))))
        True
    """

    def __init__(self, rate: float, **kwargs: Any) -> None:
        super().__init__(rate, **kwargs)
        self._drawn = _Drawn()

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        """In training, each value 0 with probability `rate`, else times 1/(1 - rate)."""
        if training is not True or self.rate == 0 or self._drawn.seed is None:
            return super().call(inputs, training=training)
        seed = tf.random.experimental.stateless_fold_in(self._drawn.seed, self._drawn.calls)
        self._drawn.calls += 1
        shape, dtype = tf.shape(inputs), inputs.dtype
        kept = tf.random.stateless_uniform(shape, seed) >= self.rate
        return tf.where(kept, inputs / tf.cast(1.0 - self.rate, dtype), tf.zeros([], dtype))


class _Drawn(threading.local):
    """What a layer draws from: each replica is traced in a thread of its own."""

    seed: Any = None
    calls: int = 0


@contextlib.contextmanager
def drawing_from(model: keras.Model, seed: tf.Tensor) -> Iterator[None]:
    """Lets the Dropout layers of a model draw from a seed while the body runs or is traced.

    Args:
        model: with such layers, or without.
        seed: int32 [2]; each layer and each replica makes another one of it.
    """
    layers = [layer for layer in _layers(model) if isinstance(layer, Dropout)]
    if layers and tf.distribute.get_strategy().num_replicas_in_sync > 1:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        seed = tf.random.experimental.stateless_fold_in(seed, replica)
    for number, layer in enumerate(layers):
        layer._drawn.seed = tf.random.experimental.stateless_fold_in(seed, number)
        layer._drawn.calls = 0
    try:
        yield
    finally:
        for layer in layers:
            layer._drawn.seed = None


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """All layers, those of models inside the model too."""
    for layer in getattr(model, "layers", []):
        yield layer
        yield from _layers(layer)
