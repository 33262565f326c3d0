"""EfficientNetV2-B0, for photos."""

from __future__ import annotations

from typing import ClassVar

from typing_extensions import override

from keras_srt.core.registry import component
from keras_srt.core.tensorflow import keras
from keras_srt.models.applications import IMAGENET_MEAN, IMAGENET_STD, BatchNormApplication
from keras_srt.models.base import ChannelValues, PositiveChannelValues


@component
class EfficientNetV2B0(BatchNormApplication):
    """Fused and inverted residuals, 5.9 million weights; images of at least 32×32 pixels.

    Source: Tan and Le 2021, as `keras.applications` builds it.

    Args:
        weights, mean, std, batch_norm_momentum: See `BatchNormApplication`; Keras'
            momentum is 0.9; the normalization is ImageNet's, as Keras' weights expect.

    Example:
        >>> EfficientNetV2B0().build((96, 96, 3), 10).output_shape  # doctest: +SKIP
        (None, 10)
    """

    name: ClassVar[str] = "efficientnet_v2_b0"

    mean: ChannelValues = IMAGENET_MEAN
    std: PositiveChannelValues = IMAGENET_STD

    @override
    def backbone(self, input_shape: tuple[int, int, int], weights: str | None) -> keras.Model:
        return keras.applications.EfficientNetV2B0(
            input_shape=input_shape,
            include_top=False,
            include_preprocessing=False,
            weights=weights,
            pooling="avg",
        )
