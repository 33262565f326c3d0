"""The base class of model builders."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

from pydantic import Field

from keras_srt.core import validation
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import Component
from keras_srt.core.tensorflow import keras

ChannelValues = Annotated[
    tuple[Annotated[float, validation.real()], ...], Field(min_length=1, max_length=4)
]
PositiveChannelValues = Annotated[
    tuple[Annotated[float, validation.real(1e-6)], ...], Field(min_length=1, max_length=4)
]


class ModelBuilder(Component):
    """Builds a functional classifier: images in [0, 1] -> float32 logits.

    Attributes:
        mean: Subtracted from the pixel values inside the model: one value, or one per channel.
        std: Divides the centered pixel values: one value, or one per channel.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def pretrained(self) -> bool:
        """Whether training starts from pretrained weights."""
        return False

    @abstractmethod
    def layers(self, images: keras.KerasTensor, num_classes: int) -> keras.KerasTensor:
        """Return the features that the final linear layer classifies.

        Args:
            images: Normalized images.
            num_classes: The number of classes.
        """

    def build(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        precision: str = "float32",
    ) -> keras.Model:
        """Build the model with fresh weights.

        Args:
            input_shape: Height, width, channels.
            num_classes: The number of classes.
            precision: "float32", "mixed_bfloat16" or "mixed_float16"; weights and logits are
                always float32.

        Returns:
            A functional model: float32 [batch, *input_shape] -> float32 [batch, classes].

        Raises:
            InvalidSettings: The model does not support this image size or number of channels.
        """
        for field in ("mean", "std"):
            given = len(getattr(self, field))
            if given not in (1, input_shape[-1]):
                raise InvalidSettings(
                    [
                        f"{field}: got {given} values; allowed: 1, or {input_shape[-1]}, one "
                        "per channel of the images"
                    ]
                )
        with _precision(precision):
            inputs = keras.Input(input_shape, name="images")
            variance = [value**2 for value in self.std]
            normalized = keras.layers.Normalization(
                mean=self._spread(self.mean, input_shape),
                variance=self._spread(variance, input_shape),
                name="normalization",
            )(inputs)
            try:
                features = self.layers(normalized, num_classes)
            except ValueError as error:
                raise InvalidSettings(
                    [
                        f"name: got {self.name!r} for images of {input_shape}; allowed: a model "
                        "that supports this size, or images of another size"
                    ]
                ) from error
            # float32 under every policy: losses and attacks need the precision.
            logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(features)
            return keras.Model(inputs, logits, name=self.name)

    def initialize(self, model: keras.Model) -> None:
        """Load the initial weights of a built model, if the settings name a file.

        Raises:
            InvalidSettings: The file is missing, or does not fit the model.
        """

    @staticmethod
    def _spread(values: Sequence[float], input_shape: tuple[int, int, int]) -> list[float]:
        return list(values) * (input_shape[-1] if len(values) == 1 else 1)


@contextmanager
def _precision(policy: str) -> Iterator[None]:
    """Set the Keras dtype policy for layers that are built inside the block."""
    before = keras.mixed_precision.global_policy().name
    keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)
