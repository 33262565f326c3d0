"""The paper's small convolutional network for MNIST."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, ClassVar

from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import keras
from keras_srt.models.base import ChannelValues, ModelBuilder, PositiveChannelValues


@component
class SmallCNN(ModelBuilder):
    """Four 3×3 convolutions (32, 32, 64, 64), two of them pooled, and two dense layers.

    Source: Zhang et al. 2019 (TRADES), whose SmallCNN the paper uses.

    Args:
        width: filters of the first convolutions; the others are twice as many.
        hidden: units of the two dense layers.
        dropout: share of units dropped between the dense layers in training.
        mean, std: normalization, see `ModelBuilder`.

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

    def layers(self, images: keras.KerasTensor, num_classes: int) -> keras.KerasTensor:
        """Convolutions, pooling and the dense layers but the last."""
        # Which load Keras.
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
