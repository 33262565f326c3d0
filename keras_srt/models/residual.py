"""Layers of pre-activation residual networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from keras_srt.core.tensorflow import keras, tf

Tensors: TypeAlias = "keras.KerasTensor"
Activation = Callable[[Tensors], Tensors]
Shortcut = Callable[[Tensors, int, int], Tensors]


def conv(x: keras.KerasTensor, filters: int, size: int = 3, stride: int = 1) -> keras.KerasTensor:
    """Apply a convolution without bias, for use before a BatchNorm."""
    return keras.layers.Conv2D(
        filters,
        size,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
    )(x)


def batch_norm(momentum: float = 0.99, epsilon: float = 1e-3) -> keras.layers.Layer:
    """Return Keras' BatchNorm; with several replicas, one over the global batch."""
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return keras.layers.BatchNormalization(momentum=momentum, epsilon=epsilon)
    from keras_srt.models.batch_norm import BatchNormalization

    return BatchNormalization(momentum=momentum, epsilon=epsilon)


def projection_shortcut(x: keras.KerasTensor, filters: int, stride: int) -> keras.KerasTensor:
    """Apply a strided 1×1 convolution (He et al. 2016)."""
    return conv(x, filters, size=1, stride=stride)


def padding_shortcut(x: keras.KerasTensor, filters: int, stride: int) -> keras.KerasTensor:
    """Apply average pooling, and pad with zero channels on both sides; no weights."""
    if stride > 1:
        # "same" padding halves odd sizes as the strided convolution does.
        x = keras.layers.AveragePooling2D(stride, padding="same")(x)
    missing = filters - x.shape[-1]
    if missing == 0:
        return x
    # ZeroPadding2D pads height and width, so the channels are transposed there and back.
    x = keras.layers.Permute((1, 3, 2))(x)
    x = keras.layers.ZeroPadding2D(((0, 0), (missing // 2, missing - missing // 2)))(x)
    return keras.layers.Permute((1, 3, 2))(x)


def residual_stages(
    x: keras.KerasTensor,
    stage_filters: Sequence[int],
    blocks: int,
    activation: Activation,
    shortcut: Shortcut,
) -> keras.KerasTensor:
    """Apply stages of BN-activation-conv blocks; each stage after the first halves the size.

    Args:
        x: Features [batch, height, width, channels].
        stage_filters: The number of filters of each stage.
        blocks: The number of blocks per stage, with two convolutions each.
        activation: The activation after each BatchNorm.
        shortcut: (x, filters, stride) -> x in the shape of the block's output.

    Returns:
        Normalized and activated features after global average pooling, [batch, filters].
    """
    layers = keras.layers
    for stage, filters in enumerate(stage_filters):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            residual = x
            x = activation(batch_norm()(x))
            if stride > 1 or residual.shape[-1] != filters:
                # The first block of a stage shares its activation with the shortcut.
                residual = shortcut(x, filters, stride)
            x = conv(x, filters, stride=stride)
            x = conv(activation(batch_norm()(x)), filters)
            x = layers.Add()([residual, x])
    x = activation(batch_norm()(x))
    return layers.GlobalAveragePooling2D()(x)
