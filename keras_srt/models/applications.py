"""Backbones from `keras.applications`, for any image size and with weights from a local file."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from typing_extensions import override

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import keras
from keras_srt.models.base import ModelBuilder
from keras_srt.models.residual import batch_norm

_NAME = "backbone"


class Application(ModelBuilder):
    """A model with a backbone from `keras.applications`.

    Attributes:
        batch_norm_momentum: The momentum of all BatchNorm layers. The momentum of
            `keras.applications` is made for trainings of a million steps.
        weights: The path of a local file with initial weights, or None.
    """

    batch_norm_momentum: float
    weights: str | None

    @abstractmethod
    def backbone(self, input_shape: tuple[int, int, int]) -> keras.Model:
        """Build the network without its classifier, with global pooling and fresh weights."""

    @override
    def layers(self, images: keras.KerasTensor, num_classes: int) -> keras.KerasTensor:
        def replace_batch_norm(layer: keras.layers.Layer) -> keras.layers.Layer:
            settings = layer.get_config()
            if not isinstance(layer, keras.layers.BatchNormalization):
                return type(layer).from_config(settings)
            settings["momentum"] = self.batch_norm_momentum
            return type(batch_norm()).from_config(settings)

        backbone = self.backbone(tuple(images.shape[1:]))
        clone = keras.models.clone_model(backbone, clone_function=replace_batch_norm)
        return keras.Model(clone.input, clone.output, name=_NAME)(images)

    @override
    def initialize(self, model: keras.Model) -> None:
        if self.weights is None:
            return
        path = Path(self.weights).expanduser()
        backbone = model.get_layer(_NAME)
        before = backbone.get_weights()
        try:
            if not path.is_file():
                raise OSError("no such file")
            backbone.load_weights(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            backbone.set_weights(before)
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InvalidSettings(
                [
                    f"weights: got {self.weights!r}, which can't be read as the weights of "
                    f"{self.name} ({reason[:160]}); allowed: a local .h5 or .weights.h5 file of "
                    "keras.applications' network without its top, or null"
                ]
            ) from error
