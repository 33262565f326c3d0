"""A small classifier of digits with some robustness, and its twin in Torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_srt import Adversarial, LInf, RobustModel
from keras_srt.core.tensorflow import keras
from keras_srt.data import Digits

_SIZE, _CLASSES = 16, 10


def train_small_classifier() -> keras.Sequential:
    """A convolutional network, trained adversarially for some seconds.

    Trained without defense it would fall at once; trained for long it would hardly fall at
    all. In between, attacks differ.

    Returns:
        Images float32 [batch, 16, 16, 1] in [0, 1] -> logits [batch, 10].
    """
    keras.utils.set_random_seed(0)
    images, labels = Digits(size=_SIZE).load_train(None)
    layers = keras.layers
    classifier = keras.Sequential(
        [
            keras.Input((_SIZE, _SIZE, 1)),
            layers.Conv2D(16, 3, strides=2, padding="valid", activation="relu"),
            layers.Conv2D(32, 3, strides=2, padding="valid", activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(_CLASSES),
        ]
    )
    model = RobustModel(classifier, LInf(epsilon=0.1, num_steps=3), Adversarial())
    model.compile(optimizer=keras.optimizers.Adam(2e-3))
    model.fit(np.float32(images / 255), labels, batch_size=64, epochs=10, verbose=0)
    return classifier


def load_test_images() -> tuple[np.ndarray, np.ndarray]:
    """Images float32 [500, 16, 16, 1] in [0, 1], and their labels int32 [500]."""
    images, labels = Digits(size=_SIZE).load_test(None)
    return np.float32(images / 255), labels


def torch_twin(classifier: keras.Sequential) -> Any:
    """The same network with the same weights in Torch.

    Args:
        classifier: of Conv2D (`padding="valid"`), Flatten and Dense layers, each with
            activation "relu" or none.

    Returns:
        A `torch.nn.Module` in inference mode, images [batch, channels, height, width] -> logits.

    Raises:
        ValueError: a layer is of another kind.
    """
    import torch

    stages: list[Any] = []
    order = None  # of the inputs of the dense layer after Flatten
    for layer in classifier.layers:
        if isinstance(layer, keras.layers.Conv2D) and layer.padding == "valid":
            kernel, bias = layer.get_weights()
            stage = torch.nn.Conv2d(*kernel.shape[2:], kernel.shape[:2], layer.strides)
            stages.append(_filled(stage, kernel.transpose(3, 2, 0, 1), bias))
        elif isinstance(layer, keras.layers.Flatten):
            # Keras flattens height, width, channels; Torch channels, height, width.
            _, height, width, channels = layer.input.shape
            places = np.arange(height * width * channels).reshape(height, width, channels)
            order = places.transpose(2, 0, 1).ravel()
            stages.append(torch.nn.Flatten())
        elif isinstance(layer, keras.layers.Dense):
            kernel, bias = layer.get_weights()
            kernel, order = (kernel if order is None else kernel[order]), None
            stages.append(_filled(torch.nn.Linear(*kernel.shape), kernel.T, bias))
        else:
            raise ValueError(f"layer: got {layer!r}; allowed: valid Conv2D, Flatten and Dense")
        if getattr(layer, "activation", None) is keras.activations.relu:
            stages.append(torch.nn.ReLU())
    return torch.nn.Sequential(*stages).eval()


def _filled(stage: Any, kernel: np.ndarray, bias: np.ndarray) -> Any:
    import torch

    with torch.no_grad():
        stage.weight.copy_(torch.from_numpy(kernel.copy()))
        stage.bias.copy_(torch.from_numpy(bias))
    # Attacks ask for the gradient with respect to images alone.
    return stage.requires_grad_(False)
