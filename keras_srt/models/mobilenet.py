"""MobileNetV2, for mobile devices."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, ClassVar

from typing_extensions import override

from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import keras
from keras_srt.models.applications import BatchNormApplication


@component
class MobileNetV2(BatchNormApplication):
    """Inverted residuals with depthwise convolutions; images of at least 32×32 pixels.

    Source: Sandler et al. 2018, as `keras.applications` builds it.

    Args:
        width: The width multiplier α of the number of filters.
        weights, mean, std, batch_norm_momentum: See `BatchNormApplication`; Keras'
            momentum is 0.999.

    Example:
        >>> MobileNetV2(width=0.35).build((32, 32, 3), 10).output_shape
        (None, 10)
    """

    name: ClassVar[str] = "mobilenet_v2"

    width: Annotated[float, validation.real(0.1, 4)] = field(default=1.0, kw_only=False)

    @override
    def backbone(self, input_shape: tuple[int, int, int], weights: str | None) -> keras.Model:
        return keras.applications.MobileNetV2(
            input_shape=input_shape,
            alpha=self.width,
            include_top=False,
            weights=weights,
            pooling="avg",
        )
