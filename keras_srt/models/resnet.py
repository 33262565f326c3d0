"""The residual network of the paper's spatial experiments."""

from __future__ import annotations

from typing import Annotated, ClassVar

from typing_extensions import override

from keras_srt.core import validation
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import keras
from keras_srt.models.base import ChannelValues, ModelBuilder, PositiveChannelValues
from keras_srt.models.residual import conv, padding_shortcut, residual_stages


@component
class ResNet(ModelBuilder):
    """Pre-activation ResNet with leaky ReLU and weight-free shortcuts.

    Source: Engstrom et al. 2019; the paper uses their network (16; 16, 32, 64; 5 blocks) for
    rotation and translation.

    Args:
        filters: The number of filters of the first convolution and of each stage.
        blocks: The number of residual blocks per stage.
        mean, std: The normalization; see `ModelBuilder`.

    Example:
        >>> ResNet(filters=(4, 4, 8), blocks=1).build((28, 28, 1), 10).output_shape
        (None, 10)
    """

    name: ClassVar[str] = "resnet"

    filters: tuple[Annotated[int, validation.whole(1)], ...] = (16, 16, 32, 64)
    blocks: Annotated[int, validation.whole(1)] = 5
    mean: ChannelValues = (0.0,)
    std: PositiveChannelValues = (1.0,)

    def __post_init__(self) -> None:
        widths = list(self.filters)
        if len(widths) < 2 or widths != sorted(widths):
            raise InvalidSettings(
                [
                    f"filters: got {widths}; allowed: two or more whole numbers in ascending "
                    "order, such as [16, 16, 32, 64]"
                ]
            )

    @override
    def layers(self, images: keras.KerasTensor, num_classes: int) -> keras.KerasTensor:
        return residual_stages(
            conv(images, self.filters[0]),
            stage_filters=self.filters[1:],
            blocks=self.blocks,
            activation=keras.layers.LeakyReLU(0.1),
            shortcut=padding_shortcut,
        )
