"""ResNet-50, for photos."""

from __future__ import annotations

from typing import ClassVar

from typing_extensions import override

from keras_srt.core.registry import component
from keras_srt.core.tensorflow import keras
from keras_srt.models.applications import BatchNormApplication


@component
class ResNet50(BatchNormApplication):
    """Pre-activation ResNet-50 (V2), 23.6 million weights; images of at least 32×32 pixels.

    Source: He et al. 2016, "Identity Mappings in Deep Residual Networks", as `keras.applications`
    builds it.

    Args:
        weights, mean, std, batch_norm_momentum: See `BatchNormApplication`; Keras'
            momentum is 0.99.

    Example:
        >>> ResNet50().build((224, 224, 3), 10).output_shape  # doctest: +SKIP
        (None, 10)
    """

    name: ClassVar[str] = "resnet50"

    @override
    def backbone(self, input_shape: tuple[int, int, int], weights: str | None) -> keras.Model:
        return keras.applications.ResNet50V2(
            input_shape=input_shape, include_top=False, weights=weights, pooling="avg"
        )
