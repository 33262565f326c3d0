"""Dropout with stateless random draws, so that a resumed training drops the same units."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from typing_extensions import override

from keras_srt.core.tensorflow import keras, tf


@keras.saving.register_keras_serializable("keras_srt")
class Dropout(keras.layers.Dropout):
    """Keras' layer with stateless draws from a seed inside `dropout_seed`.

    Checkpoints do not include the state of Keras' random generator. The class name is that of
    Keras' layer, so weight files fit both.

    Args:
        rate: The fraction of units that are dropped in training.
        **kwargs: The arguments of Keras' layer.

    Example:
        >>> import tensorflow as tf
        >>> model = keras.Sequential([keras.Input((4,)), Dropout(0.5)])
        >>> with dropout_seed(model, tf.constant([7, 0])):
        ...     first = model(tf.ones([2, 4]), training=True)
        >>> with dropout_seed(model, tf.constant([7, 0])):
        ...     print(bool(tf.reduce_all(first == model(tf.ones([2, 4]), training=True))))
        True
    """

    def __init__(self, rate: float, **kwargs: Any) -> None:
        super().__init__(rate, **kwargs)
        self._state = _SeedState()

    @override
    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        if training is not True or self.rate == 0 or self._state.seed is None:
            return super().call(inputs, training=training)
        seed = tf.random.experimental.stateless_fold_in(self._state.seed, self._state.calls)
        self._state.calls += 1
        shape, dtype = tf.shape(inputs), inputs.dtype
        if self.noise_shape is not None:
            fixed = [-1 if side is None else side for side in self.noise_shape]
            shape = tf.where(tf.constant(fixed) < 0, shape, tf.constant(fixed))
        kept = tf.random.stateless_uniform(shape, seed) >= self.rate
        return tf.where(kept, inputs / tf.cast(1.0 - self.rate, dtype), tf.zeros([], dtype))


class _SeedState(threading.local):
    """The seed of a layer, and its number of calls. Each replica is traced in its own thread."""

    seed: Any = None
    calls: int = 0


@contextlib.contextmanager
def dropout_seed(model: keras.Model, seed: tf.Tensor) -> Iterator[None]:
    """Make the Dropout layers of a model draw from a seed inside the block.

    Args:
        model: A model with or without Dropout layers.
        seed: int32 [2]; each layer, replica and call derives its own seed.
    """
    layers = [layer for layer in all_layers(model) if isinstance(layer, Dropout)]
    if layers and tf.distribute.get_strategy().num_replicas_in_sync > 1:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        seed = tf.random.experimental.stateless_fold_in(seed, replica)
    for number, layer in enumerate(layers):
        layer._state.seed = tf.random.experimental.stateless_fold_in(seed, number)
        layer._state.calls = 0
    try:
        yield
    finally:
        for layer in layers:
            layer._state.seed = None


def all_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yield all layers, including those of nested models."""
    for layer in getattr(model, "layers", []):
        yield layer
        yield from all_layers(layer)
