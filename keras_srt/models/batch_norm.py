"""Batch normalization over the images of all replicas."""

from __future__ import annotations

from typing import Any

from keras_srt.core.tensorflow import keras, tf


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' layer, but in training with the mean and variance of the global batch.

    Unlike `synchronized=True` of Keras it equals the layer of one device in the moving variance
    too, which has Bessel's correction there, and takes any share of the images on each
    replica. It has Keras' name, so that files of weights fit both layers. The channels are last.

    Args:
        **kwargs: those of Keras' layer.

    Example:
        >>> import tensorflow as tf
        >>> float(tf.reduce_mean(BatchNormalization()(tf.ones([2, 3, 3, 1]), training=True)))
        0.0
    """

    def call(self, inputs: tf.Tensor, training: Any = None, **kwargs: Any) -> tf.Tensor:
        """Normalized inputs, of their shape and dtype."""
        if training is not True:
            return super().call(inputs, training=training, **kwargs)
        values = tf.cast(inputs, tf.float32)
        mean, variance, count = self._moments(values)
        kept = self.momentum
        unbiased = variance * count / tf.maximum(count - 1.0, 1.0)
        self.moving_mean.assign(kept * self.moving_mean + (1.0 - kept) * mean)
        self.moving_variance.assign(kept * self.moving_variance + (1.0 - kept) * unbiased)
        factor = self.gamma * tf.math.rsqrt(variance + self.epsilon)
        return tf.cast((values - mean) * factor + self.beta, inputs.dtype)

    def _moments(self, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Mean and variance of each channel over all replicas, and how many values they have."""
        axes = list(range(values.shape.rank - 1))
        # The moving mean is near the mean, and taking it away first keeps the digits.
        shift = tf.stop_gradient(tf.identity(self.moving_mean))
        centered = values - shift
        count = tf.cast(tf.size(values) // values.shape[-1], tf.float32)
        sums = [
            tf.reduce_sum(centered, axes),
            tf.reduce_sum(tf.square(centered), axes),
            count * tf.ones_like(shift),
        ]
        context = tf.distribute.get_replica_context()
        first, second, counts = tf.unstack(
            context.all_reduce(tf.distribute.ReduceOp.SUM, tf.stack(sums))
        )
        mean = first / counts
        return shift + mean, tf.maximum(second / counts - tf.square(mean), 0.0), counts
