"""ResNet-50, for photos."""

from __future__ import annotations

from typing import Annotated, ClassVar

from typing_extensions import override

from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import keras
from keras_srt.models.applications import Application, Weights
from keras_srt.models.base import ChannelValues, PositiveChannelValues


@component
class ResNet50(Application):
    """Pre-activation ResNet-50 (V2), 23.6 million weights; images of at least 32×32 pixels.

    Source: He et al. 2016, "Identity Mappings in Deep Residual Networks", as `keras.applications`
    builds it.

    Args:
        batch_norm_momentum: The momentum of all BatchNorm layers; Keras' value is 0.99.
        weights: "imagenet" for Keras' weights, downloaded once; a local file with weights of Keras'
            network without its top, such as
            `resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5`; null for random weights.
        mean, std: The normalization, see `ModelBuilder`; by default to [-1, 1], as Keras' weights
            expect.

    Example:
        >>> ResNet50().build((224, 224, 3), 10).output_shape  # doctest: +SKIP
        (None, 10)
    """

    name: ClassVar[str] = "resnet50"

    batch_norm_momentum: Annotated[float, validation.real(0, 0.9999)] = 0.9
    weights: Weights = None
    mean: ChannelValues = (0.5,)
    std: PositiveChannelValues = (0.5,)

    @override
    def backbone(self, input_shape: tuple[int, int, int], weights: str | None) -> keras.Model:
        return keras.applications.ResNet50V2(
            input_shape=input_shape, include_top=False, weights=weights, pooling="avg"
        )
