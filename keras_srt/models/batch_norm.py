"""Batch normalization over the global batch of all replicas."""

from __future__ import annotations

from typing import Any

from typing_extensions import override

from keras_srt.core.tensorflow import keras, tf


@keras.saving.register_keras_serializable("keras_srt")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' layer with the mean and variance of the global batch in training.

    Unlike Keras' `synchronized=True`, it equals the layer on one device: replicas can have
    different numbers of images, and the moving variance has Bessel's correction with Keras 2. The
    class name is that of Keras' layer, so weight files fit both. Channels are last.

    Args:
        **kwargs: The arguments of Keras' layer.

    Example:
        >>> import tensorflow as tf
        >>> float(tf.reduce_mean(BatchNormalization()(tf.ones([2, 3, 3, 1]), training=True)))
        0.0
    """

    @override
    def call(self, inputs: tf.Tensor, training: Any = None, **kwargs: Any) -> tf.Tensor:
        if training is not True:
            return super().call(inputs, training=training, **kwargs)
        values = tf.cast(inputs, tf.float32)
        mean, variance, count = self._moments(values)
        momentum = self.momentum
        # Keras 2's fused kernel corrects the moving variance; Keras 3 has no such kernel.
        fused = getattr(self, "fused", False)
        moving = variance * count / tf.maximum(count - 1.0, 1.0) if fused else variance
        self.moving_mean.assign(momentum * self.moving_mean + (1.0 - momentum) * mean)
        self.moving_variance.assign(momentum * self.moving_variance + (1.0 - momentum) * moving)
        factor = self.gamma * tf.math.rsqrt(variance + self.epsilon)
        return tf.cast((values - mean) * factor + self.beta, inputs.dtype)

    def _moments(self, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The mean, variance and number of values of each channel, over all replicas."""
        axes = list(range(values.shape.rank - 1))
        # Subtracting the moving mean, which is near the mean, avoids cancellation.
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
