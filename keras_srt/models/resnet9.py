"""A residual network for small color images that is fast on CPUs."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, ClassVar

from typing_extensions import override

from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import keras
from keras_srt.models.base import ChannelValues, ModelBuilder, PositiveChannelValues
from keras_srt.models.residual import batch_norm, conv

# Scales the features so that the logits of global max pooling start small.
_FEATURE_SCALE = 0.25


@component
class ResNet9(ModelBuilder):
    """ResNet-9: eight convolutions and a linear layer, with max pooling before wide layers.

    conv W, conv 2W + pool, residual 2W, conv 4W + pool, conv 8W + pool, residual 8W, global max
    pooling. Layers have at least 32 channels, which CPUs with AMX or AVX-512 need: with W = 32, 95
    million multiply-adds for a 32×32 image and 1.65 million parameters.

    Source: the ResNet-9 of DAWNBench (Page 2019, "How to train your ResNet"), at half its width.

    Args:
        width: W, filters of the first convolution.
        mean, std: Normalization, see `ModelBuilder`.

    Example:
        >>> ResNet9(width=4).build((32, 32, 3), 10).output_shape
        (None, 10)
    """

    name: ClassVar[str] = "resnet9"

    width: Annotated[int, validation.whole(1)] = field(default=32, kw_only=False)
    mean: ChannelValues = (0.4914, 0.4822, 0.4465)
    std: PositiveChannelValues = (0.247, 0.2435, 0.2616)

    @override
    def layers(self, images: keras.KerasTensor, num_classes: int) -> keras.KerasTensor:
        x = _block(images, self.width)
        x = _residual(_block(x, 2 * self.width, pool=True))
        x = _block(x, 4 * self.width, pool=True)
        x = _residual(_block(x, 8 * self.width, pool=True))
        x = keras.layers.GlobalMaxPooling2D()(x)
        return keras.layers.Rescaling(_FEATURE_SCALE)(x)


def _block(x: keras.KerasTensor, filters: int, pool: bool = False) -> keras.KerasTensor:
    """Convolution, optional max pooling, BatchNorm and ReLU."""
    x = conv(x, filters)
    if pool:
        x = keras.layers.MaxPooling2D()(x)
    return keras.layers.ReLU()(batch_norm(momentum=0.95, epsilon=1e-5)(x))


def _residual(x: keras.KerasTensor) -> keras.KerasTensor:
    filters = x.shape[-1]
    return keras.layers.Add()([x, _block(_block(x, filters), filters)])
