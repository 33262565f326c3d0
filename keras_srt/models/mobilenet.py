"""MobileNetV2, for mobile devices."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, ClassVar

from typing_extensions import override

from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import keras
from keras_srt.models.applications import Application, Weights
from keras_srt.models.base import ChannelValues, PositiveChannelValues


@component
class MobileNetV2(Application):
    """Inverted residuals with depthwise convolutions; images of at least 32×32 pixels.

    Source: Sandler et al. 2018, as `keras.applications` builds it.

    Args:
        width: The width multiplier α of the number of filters.
        batch_norm_momentum: The momentum of all BatchNorm layers; Keras' value is 0.999.
        weights: "imagenet" for Keras' weights, downloaded once; a local file with weights of Keras'
            network without its top, such as
            `mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5`; null for random
            weights.
        mean, std: The normalization, see `ModelBuilder`; by default to [-1, 1], as Keras' weights
            expect.

    Example:
        >>> MobileNetV2(width=0.35).build((32, 32, 3), 10).output_shape
        (None, 10)
    """

    name: ClassVar[str] = "mobilenet_v2"

    width: Annotated[float, validation.real(0.1, 4)] = field(default=1.0, kw_only=False)
    batch_norm_momentum: Annotated[float, validation.real(0, 0.9999)] = 0.9
    weights: Weights = None
    mean: ChannelValues = (0.5,)
    std: PositiveChannelValues = (0.5,)

    @override
    def backbone(self, input_shape: tuple[int, int, int], weights: str | None) -> keras.Model:
        return keras.applications.MobileNetV2(
            input_shape=input_shape,
            alpha=self.width,
            include_top=False,
            weights=weights,
            pooling="avg",
        )
