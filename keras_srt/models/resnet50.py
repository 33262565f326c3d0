"""ResNet-50, for photos on servers."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import keras
from keras_srt.models.applications import Application
from keras_srt.models.base import ChannelValues, PositiveChannelValues


@component
class ResNet50(Application):
    """ResNet-50 with pre-activation (V2): 50 layers, 23.6 million weights; images from 32×32.

    Source: He et al. 2016, "Identity Mappings in Deep Residual Networks", as `keras.applications`
    builds it.

    Args:
        batch_norm_momentum: of all BatchNorms; Keras has 0.99.
        weights: local file with the weights of Keras' ResNet50V2 without its top (such as
            `resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5`) to start from; null for
            fresh ones.
        mean, std: normalization, see `ModelBuilder`; by default to [-1, 1], as Keras' weights take.

    Example:
        >>> ResNet50().build((32, 32, 3), 10).output_shape
        (None, 10)
    """

    name: ClassVar[str] = "resnet50"

    batch_norm_momentum: Annotated[float, validation.real(0, 0.9999)] = 0.9
    weights: Annotated[str, Field(min_length=1)] | None = None
    mean: ChannelValues = (0.5,)
    std: PositiveChannelValues = (0.5,)

    def backbone(self, input_shape: tuple[int, int, int]) -> keras.Model:
        """Keras' ResNet50V2 without its top."""
        return keras.applications.ResNet50V2(
            input_shape=input_shape, include_top=False, weights=None, pooling="avg"
        )
