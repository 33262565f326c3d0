"""MobileNetV3, for mobile devices."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, ClassVar, Literal

from typing_extensions import override

from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import keras
from keras_srt.models.applications import BatchNormApplication


@component
class MobileNetV3(BatchNormApplication):
    """Inverted residuals with squeeze-and-excite; images of at least 32×32 pixels.

    Source: Howard et al. 2019, as `keras.applications` builds it.

    Args:
        size: "small" or "large".
        width: The width multiplier α of the number of filters.
        weights, mean, std, batch_norm_momentum: See `BatchNormApplication`; Keras'
            momentum is 0.999.

    Example:
        >>> MobileNetV3("small").build((32, 32, 3), 10).output_shape
        (None, 10)
    """

    name: ClassVar[str] = "mobilenet_v3"

    size: Literal["small", "large"] = field(default="small", kw_only=False)
    width: Annotated[float, validation.real(0.1, 4)] = 1.0

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
