"""A tiny network in the form of those from `keras.applications`."""

import numpy as np

from keras_srt.core.registry import component
from keras_srt.core.tensorflow import keras
from keras_srt.models import MODELS
from keras_srt.models.applications import BatchNormApplication


@component
class Pooled(BatchNormApplication):
    """An application whose "imagenet" weights are sevens."""

    name = "pooled"
    batch_norm_momentum: float = 0.5

    def backbone(self, input_shape, weights):
        layers = keras.layers
        inputs = keras.Input(input_shape)
        x = layers.BatchNormalization(momentum=0.9)(layers.Conv2D(4, 3)(inputs))
        x = layers.Dropout(0.5, noise_shape=(None, 1, 1, 1))(x)
        model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
        if weights == "imagenet":
            model.set_weights([np.full(w.shape, 7.0) for w in model.get_weights()])
        return model


def pretrained_model(folder, monkeypatch, input_shape=(16, 16, 1)):
    """The settings of a model with a local file of pretrained weights."""
    monkeypatch.setitem(MODELS._classes, "pooled", Pooled)
    path = folder / "pooled.weights.h5"
    keras.utils.set_random_seed(5)
    Pooled().build(input_shape, 10).get_layer("backbone").save_weights(path)
    return {"name": "pooled", "weights": str(path)}
