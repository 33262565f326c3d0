"""Networks of `keras.applications`, as backbones: any size, weights from a local file."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import keras
from keras_srt.models.base import ModelBuilder
from keras_srt.models.residual import batch_norm

_NAME = "backbone"


class Application(ModelBuilder):
    """A backbone of `keras.applications` without its classifier.

    A subclass also has the fields `batch_norm_momentum`, of all its BatchNorms (those of
    `keras.applications` are made for a million steps), and `weights`, a local file.
    """

    batch_norm_momentum: float
    weights: str | None

    @abstractmethod
    def backbone(self, input_shape: tuple[int, int, int]) -> keras.Model:
        """The network without its classifier, averaged over the image, with fresh weights."""

    def layers(self, images: keras.KerasTensor, num_classes: int) -> keras.KerasTensor:
        """The backbone, one layer of the model."""

        def with_own_batch_norm(layer: keras.layers.Layer) -> keras.layers.Layer:
            settings = layer.get_config()
            if not isinstance(layer, keras.layers.BatchNormalization):
                return type(layer).from_config(settings)
            settings["momentum"] = self.batch_norm_momentum
            return type(batch_norm()).from_config(settings)

        made = self.backbone(tuple(images.shape[1:]))
        clone = keras.models.clone_model(made, clone_function=with_own_batch_norm)
        return keras.Model(clone.input, clone.output, name=_NAME)(images)

    def initialize(self, model: keras.Model) -> None:
        """Reads the backbone's weights from the file, if one is set.

        Raises:
            InvalidSettings: there is no such file, or it fits another network.
        """
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
