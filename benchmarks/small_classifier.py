"""Classifiers of digits for the benchmarks, and the same networks in Torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_srt import Adversarial, LInf, RobustModel, Standard
from keras_srt.core.tensorflow import keras
from keras_srt.data import Digits
from keras_srt.neighborhoods import Neighborhood

_SIZE, _CLASSES = 16, 10


def train_small_classifier() -> keras.Sequential:
    """Trains a convolutional network adversarially for a few seconds.

    Attacks of different strength differ on it, unlike on a standard or a fully robust model.

    Returns:
        Images float32 [batch, 16, 16, 1] in [0, 1] -> logits [batch, 10].
    """
    keras.utils.set_random_seed(0)
    images, labels = Digits(size=_SIZE).open().load_train()
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


def train_strided_cnn(defense: Neighborhood | None, steps: int) -> keras.Sequential:
    """Trains SmallCNN with strides instead of pooling, which has an equivalent in Torch.

    Args:
        defense: Neighborhood of adversarial training; None for standard training.
        steps: Number of steps, each on 64 digits.

    Returns:
        Images float32 [batch, 28, 28, 1] in [0, 1] -> logits [batch, 10].
    """
    keras.utils.set_random_seed(0)
    layers = keras.layers
    convolutions = [
        layers.Conv2D(filters, 3, strides, activation="relu", kernel_initializer="he_normal")
        for filters, strides in ((32, 1), (32, 2), (64, 1), (64, 2))
    ]
    dense = [layers.Dense(200, activation="relu"), layers.Dense(_CLASSES)]
    classifier = keras.Sequential(
        [keras.Input((28, 28, 1)), *convolutions, layers.Flatten(), *dense]
    )
    images, labels = Digits(size=28).open().load_train()
    objective = Standard() if defense is None else Adversarial()
    warmup = 0 if defense is None else steps // 2
    model = RobustModel(classifier, defense, objective, strength_warmup=warmup)
    model.compile(keras.optimizers.Adam(1e-3))
    draws = np.random.default_rng(0).integers(len(images), size=64 * steps)
    model.fit(np.float32(images[draws] / 255), labels[draws], batch_size=64, verbose=0)
    return classifier


def load_test_images() -> tuple[np.ndarray, np.ndarray]:
    """Images float32 [500, 16, 16, 1] in [0, 1], and their labels int32 [500]."""
    images, labels = Digits(size=_SIZE).open().load_test()
    return np.float32(images / 255), labels


def torch_twin(classifier: keras.Sequential) -> Any:
    """Returns the same network with the same weights in Torch.

    Args:
        classifier: Consists of Conv2D (`padding="valid"`), Flatten and Dense layers, each with
            activation "relu" or none.

    Returns:
        A `torch.nn.Module` in inference mode, images [batch, channels, height, width] -> logits.

    Raises:
        ValueError: The classifier has another layer.
    """
    import torch

    stages: list[Any] = []
    order = None  # inputs of the dense layer after Flatten
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
    # Attacks only need the gradient with respect to images.
    return stage.requires_grad_(False)
