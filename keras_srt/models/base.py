"""What every model builder offers, and the policy it builds under."""

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

    A subclass is a component with a `name` and the fields `mean` and `std`: pixel values
    are normalized as (x - mean)/std inside the model, one value for all channels or one
    for each.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @abstractmethod
    def layers(self, images: keras.KerasTensor, num_classes: int) -> keras.KerasTensor:
        """From normalized images to what the last, linear layer reads."""

    def build(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        precision: str = "float32",
    ) -> keras.Model:
        """Makes the model with fresh weights.

        Args:
            input_shape: height, width, channels.
            num_classes: how many logits.
            precision: "float32", "mixed_bfloat16" or "mixed_float16" (weights and logits
                stay float32).

        Returns:
            A functional model: float32 [batch, *input_shape] -> float32 [batch, classes].

        Raises:
            InvalidSettings: the model can't take images of that size or number of channels.
        """
        for field in ("mean", "std"):
            given = len(getattr(self, field))
            if given not in (1, input_shape[-1]):
                raise InvalidSettings(
                    [
                        f"{field}: got {given} values; allowed: 1, or {input_shape[-1]}, one "
                        "for each channel of the images"
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
                        "that takes this size, or images of another size"
                    ]
                ) from error
            # float32 whatever the policy: losses and attacks need the precision.
            logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(features)
            return keras.Model(inputs, logits, name=self.name)

    def initialize(self, model: keras.Model) -> None:
        """Gives a built model the weights that training starts from, where they are no fresh ones.

        Raises:
            InvalidSettings: they can't be read.
        """

    @staticmethod
    def _spread(values: Sequence[float], input_shape: tuple[int, int, int]) -> list[float]:
        return list(values) * (input_shape[-1] if len(values) == 1 else 1)


@contextmanager
def _precision(policy: str) -> Iterator[None]:
    """Sets the Keras dtype policy for the layers built inside, and restores it."""
    before = keras.mixed_precision.global_policy().name
    keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)
