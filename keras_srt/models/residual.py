"""Pre-activation residual stages, shared by the residual networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from keras_srt.core.tensorflow import keras, tf

Tensors: TypeAlias = "keras.KerasTensor"
Activation = Callable[[Tensors], Tensors]
Shortcut = Callable[[Tensors, int, int], Tensors]


def conv(x: keras.KerasTensor, filters: int, size: int = 3, stride: int = 1) -> keras.KerasTensor:
    """A convolution without bias, as it stands before a BatchNorm."""
    return keras.layers.Conv2D(
        filters,
        size,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
    )(x)


def batch_norm() -> keras.layers.Layer:
    """A BatchNorm of Keras; under a strategy of several replicas, over the images of all."""
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return keras.layers.BatchNormalization()
    from keras_srt.models.batch_norm import BatchNormalization

    return BatchNormalization()


def projection_shortcut(x: keras.KerasTensor, filters: int, stride: int) -> keras.KerasTensor:
    """A strided 1×1 convolution, where size or width changes (He et al. 2016)."""
    return conv(x, filters, size=1, stride=stride)


def padding_shortcut(x: keras.KerasTensor, filters: int, stride: int) -> keras.KerasTensor:
    """Average pooling and zero channels on both sides, which need no weights."""
    if stride > 1:
        # "same", so that an odd size is halved as the strided convolution halves it.
        x = keras.layers.AveragePooling2D(stride, padding="same")(x)
    missing = filters - x.shape[-1]
    if missing == 0:
        return x
    # ZeroPadding2D pads height and width: the channels are turned there and back.
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
    """BN-activation-conv blocks; each stage after the first halves the size.

    Args:
        x: features [batch, height, width, channels].
        stage_filters: filters of each stage.
        blocks: blocks of each stage, two convolutions each.
        activation: applied after each BatchNorm.
        shortcut: (x, filters, stride) -> x in the shape of the block's output.

    Returns:
        Features [batch, filters], averaged over the image, normalized and activated.
    """
    layers = keras.layers
    for stage, filters in enumerate(stage_filters):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            before = x
            x = activation(batch_norm()(x))
            if stride > 1 or before.shape[-1] != filters:
                # The first block of a stage shares the activation with its shortcut.
                before = shortcut(x, filters, stride)
            x = conv(x, filters, stride=stride)
            x = conv(activation(batch_norm()(x)), filters)
            x = layers.Add()([before, x])
    x = activation(batch_norm()(x))
    return layers.GlobalAveragePooling2D()(x)
