"""EfficientNetV2-B0, for photos."""

from __future__ import annotations

from typing import Annotated, ClassVar

from typing_extensions import override

from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import keras
from keras_srt.models.applications import IMAGENET_MEAN, IMAGENET_STD, Application, Weights
from keras_srt.models.base import ChannelValues, PositiveChannelValues


@component
class EfficientNetV2B0(Application):
    """Fused and inverted residuals, 5.9 million weights; images of at least 32×32 pixels.

    Source: Tan and Le 2021, as `keras.applications` builds it.

    Args:
        batch_norm_momentum: The momentum of all BatchNorm layers, as Keras'.
        weights: "imagenet" for Keras' weights, downloaded once; a local file with weights of Keras'
            network without its top, such as `efficientnetv2-b0_notop.h5`; null for random weights.
        mean, std: The normalization, see `ModelBuilder`; by default ImageNet's, as Keras' weights
            expect.

    Example:
        >>> EfficientNetV2B0().build((96, 96, 3), 10).output_shape  # doctest: +SKIP
        (None, 10)
    """

    name: ClassVar[str] = "efficientnet_v2_b0"

    batch_norm_momentum: Annotated[float, validation.real(0, 0.9999)] = 0.9
    weights: Weights = None
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
