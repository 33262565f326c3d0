"""ConvNeXt-Tiny, for photos and GPUs."""

from __future__ import annotations

from typing import ClassVar

from typing_extensions import override

from keras_srt.core.registry import component
from keras_srt.core.tensorflow import keras
from keras_srt.models.applications import IMAGENET_MEAN, IMAGENET_STD, Application
from keras_srt.models.base import ChannelValues, PositiveChannelValues


@component
class ConvNeXtTiny(Application):
    """7×7 depthwise convolutions and LayerNorm, 27.8 million weights; at least 32×32 pixels.

    Source: Liu et al. 2022, as `keras.applications` builds it.

    Args:
        weights, mean, std: See `Application`; the normalization is ImageNet's, as Keras'
            weights expect.

    Example:
        >>> ConvNeXtTiny().build((96, 96, 3), 10).output_shape  # doctest: +SKIP
        (None, 10)
    """

    name: ClassVar[str] = "convnext_tiny"

    mean: ChannelValues = IMAGENET_MEAN
    std: PositiveChannelValues = IMAGENET_STD

    @override
    def backbone(self, input_shape: tuple[int, int, int], weights: str | None) -> keras.Model:
        return keras.applications.ConvNeXtTiny(
            input_shape=input_shape,
            include_top=False,
            include_preprocessing=False,
            weights=weights,
            pooling="avg",
        )
