"""The paper's small convolutional network for MNIST."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, ClassVar

from typing_extensions import override

from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import keras
from keras_srt.models.base import ChannelValues, ModelBuilder, PositiveChannelValues


@component
class SmallCNN(ModelBuilder):
    """Four 3×3 convolutions (32, 32, 64, 64), pooled after each pair, and two dense layers.

    Source: SmallCNN of Zhang et al. 2019 (TRADES), which the paper uses.

    Args:
        width: The number of filters of the first two convolutions; the others have twice as many.
        hidden: The number of units of the dense layers.
        dropout: The dropout rate between the dense layers.
        mean, std: The normalization; see `ModelBuilder`.

    Example:
        >>> SmallCNN(width=4).build((28, 28, 1), 10).output_shape
        (None, 10)
    """

    name: ClassVar[str] = "small_cnn"

    width: Annotated[int, validation.whole(1)] = field(default=32, kw_only=False)
    hidden: Annotated[int, validation.whole(1)] = 200
    dropout: Annotated[float, validation.real(0, 0.99)] = 0.5
    mean: ChannelValues = (0.0,)
    std: PositiveChannelValues = (1.0,)

    @override
    def layers(self, images: keras.KerasTensor, num_classes: int) -> keras.KerasTensor:
        # These modules import Keras.
        from keras_srt.models.convolution import Conv2D
        from keras_srt.models.dropout import Dropout

        layers = keras.layers
        x = images
        for filters in (self.width, 2 * self.width):
            for _ in range(2):
                x = Conv2D(filters, 3, activation="relu", kernel_initializer="he_normal")(x)
            x = layers.MaxPooling2D(2)(x)
        x = layers.Flatten()(x)
        x = layers.Dense(self.hidden, activation="relu", kernel_initializer="he_normal")(x)
        x = Dropout(self.dropout)(x)
        return layers.Dense(self.hidden, activation="relu", kernel_initializer="he_normal")(x)
