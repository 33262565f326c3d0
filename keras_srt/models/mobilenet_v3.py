"""MobileNetV3, for mobile devices."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, ClassVar, Literal

from typing_extensions import override

from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import keras
from keras_srt.models.applications import Application, Weights
from keras_srt.models.base import ChannelValues, PositiveChannelValues


@component
class MobileNetV3(Application):
    """Inverted residuals with squeeze-and-excite; images of at least 32×32 pixels.

    Source: Howard et al. 2019, as `keras.applications` builds it.

    Args:
        size: "small" or "large".
        width: The width multiplier α of the number of filters.
        batch_norm_momentum: The momentum of all BatchNorm layers; Keras' value is 0.999.
        weights: "imagenet" for Keras' weights, downloaded once; a local file with weights of Keras'
            network without its top; null for random weights.
        mean, std: The normalization, see `ModelBuilder`; by default to [-1, 1], as Keras' weights
            expect.

    Example:
        >>> MobileNetV3("small").build((32, 32, 3), 10).output_shape
        (None, 10)
    """

    name: ClassVar[str] = "mobilenet_v3"

    size: Literal["small", "large"] = field(default="small", kw_only=False)
    width: Annotated[float, validation.real(0.1, 4)] = 1.0
    batch_norm_momentum: Annotated[float, validation.real(0, 0.9999)] = 0.9
    weights: Weights = None
    mean: ChannelValues = (0.5,)
    std: PositiveChannelValues = (0.5,)

    @override
    def backbone(self, input_shape: tuple[int, int, int], weights: str | None) -> keras.Model:
        applications = keras.applications
        make = {"small": applications.MobileNetV3Small, "large": applications.MobileNetV3Large}
        return make[self.size](
            input_shape=input_shape,
            alpha=self.width,
            include_top=False,
            include_preprocessing=False,
            weights=weights,
            pooling="avg",
        )
