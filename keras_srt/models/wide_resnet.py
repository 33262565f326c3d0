"""Wide residual networks (WRN-n-k)."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, ClassVar

from typing_extensions import override

from keras_srt.core import validation
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import keras
from keras_srt.models.base import ChannelValues, ModelBuilder, PositiveChannelValues
from keras_srt.models.residual import conv, projection_shortcut, residual_stages


@component
class WideResNet(ModelBuilder):
    """WRN-depth-widening: three stages of 16k, 32k and 64k filters, (depth - 4)/6 blocks each.

    Source: Zagoruyko and Komodakis 2016; WRN-34-10 is the paper's model for CIFAR-10.

    Args:
        depth: n, the number of convolutions, 6·blocks + 4: 10, 16, 22, 28, 34, 40, …
        widening: k, the factor on the number of filters.
        mean, std: The normalization; see `ModelBuilder`.

    Example:
        >>> WideResNet(depth=10, widening=1).build((32, 32, 3), 10).output_shape
        (None, 10)
    """

    name: ClassVar[str] = "wide_resnet"

    depth: Annotated[int, validation.whole(10)] = field(default=34, kw_only=False)
    widening: Annotated[int, validation.whole(1)] = 10
    mean: ChannelValues = (0.0,)
    std: PositiveChannelValues = (1.0,)

    def __post_init__(self) -> None:
        if (self.depth - 4) % 6:
            raise InvalidSettings(
                [f"depth: got {self.depth}; allowed: 6·blocks + 4: 10, 16, 22, 28, 34, …"]
            )

    @override
    def layers(self, images: keras.KerasTensor, num_classes: int) -> keras.KerasTensor:
        return residual_stages(
            conv(images, 16),
            stage_filters=[width * self.widening for width in (16, 32, 64)],
            blocks=(self.depth - 4) // 6,
            activation=keras.layers.ReLU(),
            shortcut=projection_shortcut,
        )
