"""Backbones from `keras.applications`, for any image size and with pretrained weights."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from keras_srt.core import validation
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import keras
from keras_srt.models.base import ChannelValues, ModelBuilder, PositiveChannelValues
from keras_srt.models.residual import batch_norm

# What weights trained with Keras' "torch" preprocessing expect.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_IMAGENET = "imagenet"
_NAME = "backbone"


@component
class Application(ModelBuilder):
    """Base class of models with a backbone from `keras.applications`.

    Args:
        weights: "imagenet" for Keras' weights, downloaded once and kept in `~/.keras/models`; a
            local file with weights of Keras' network without its top; null for random weights.
        mean, std: The normalization, see `ModelBuilder`; by default to [-1, 1].
    """

    weights: Annotated[str, Field(min_length=1)] | None = None
    mean: ChannelValues = (0.5,)
    std: PositiveChannelValues = (0.5,)

    @property
    @override
    def pretrained(self) -> bool:
        return self.weights is not None

    @abstractmethod
    def backbone(self, input_shape: tuple[int, int, int], weights: str | None) -> keras.Model:
        """Build the network without its classifier, with global pooling.

        Args:
            input_shape: Height, width, channels.
            weights: "imagenet", or None for fresh weights.
        """

    @override
    def layers(self, images: keras.KerasTensor, num_classes: int) -> keras.KerasTensor:
        backbone = self.backbone(tuple(images.shape[1:]), None)
        replaced = (keras.layers.BatchNormalization, keras.layers.Dropout)
        if any(isinstance(layer, replaced) for layer in backbone.layers):
            backbone = keras.models.clone_model(backbone, clone_function=self.copy_layer)
        return keras.Model(backbone.input, backbone.output, name=_NAME)(images)

    def copy_layer(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        """Copy a layer of the backbone; Dropout gets draws that can be resumed."""
        from keras_srt.models.dropout import Dropout  # is a Keras layer, so imports Keras

        kind = Dropout if isinstance(layer, keras.layers.Dropout) else type(layer)
        return kind.from_config(layer.get_config())

    @override
    def initialize(self, model: keras.Model) -> None:
        if self.weights == _IMAGENET:
            self._download(model)
        elif self.weights is not None:
            self._read(model, self.weights)

    def _download(self, model: keras.Model) -> None:
        shape = tuple(model.input_shape[1:])
        if shape[2] != 3:
            raise InvalidSettings(
                [
                    f"weights: got {_IMAGENET!r} for images with {shape[2]} channels; allowed: "
                    "color images, or null"
                ]
            )
        try:
            pretrained = self.backbone(shape, _IMAGENET)
        except Exception as error:  # Keras raises Exception itself if a download fails
            raise InvalidSettings(
                [
                    f"weights: got {_IMAGENET!r}, which can't be downloaded "
                    f"({_first_line(error)}); allowed: run once with a network connection (Keras "
                    "keeps the file in ~/.keras/models), or the path of a local file"
                ]
            ) from error
        model.get_layer(_NAME).set_weights(pretrained.get_weights())

    def _read(self, model: keras.Model, weights: str) -> None:
        path = Path(weights).expanduser()
        backbone = model.get_layer(_NAME)
        before = backbone.get_weights()
        try:
            if not path.is_file():
                raise OSError("no such file")
            backbone.load_weights(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            backbone.set_weights(before)
            raise InvalidSettings(
                [
                    f"weights: got {weights!r}, which can't be read as the weights of "
                    f"{self.name} ({_first_line(error)}); allowed: 'imagenet', a local .h5 or "
                    ".weights.h5 file of keras.applications' network without its top, or null"
                ]
            ) from error


@component
class BatchNormApplication(Application):
    """Base class of applications with BatchNorm.

    Args:
        batch_norm_momentum: The momentum of all BatchNorm layers. That of `keras.applications` is
            made for trainings of a million steps.
    """

    batch_norm_momentum: Annotated[float, validation.real(0, 0.9999)] = 0.9

    @override
    def copy_layer(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        """Copy a layer of the backbone; BatchNorm gets the momentum."""
        if not isinstance(layer, keras.layers.BatchNormalization):
            return super().copy_layer(layer)
        settings = layer.get_config() | {"momentum": self.batch_norm_momentum}
        return type(batch_norm()).from_config(settings)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
