"""The classifiers of the benchmark of evaluations, trained for some seconds."""

from __future__ import annotations

import numpy as np

from keras_srt import Adversarial, LInf, RobustModel, Spatial, Standard
from keras_srt.core.tensorflow import keras
from keras_srt.data import Digits
from keras_srt.neighborhoods import Neighborhood

SIZE, CLASSES = 28, 10
# What the robust model of each attack is trained against.
DEFENSES: dict[str, Neighborhood] = {
    "pgd": LInf(epsilon=0.3, num_steps=5),
    "gridadv": Spatial(num_samples=5),
}


def train(defense: Neighborhood | None, steps: int) -> keras.Sequential:
    """SmallCNN with strides in the place of pooling, so that a twin in Torch is easily made.

    Args:
        defense: what it is trained against; None for nothing.
        steps: of training, each on 64 digits.

    Returns:
        Images float32 [batch, 28, 28, 1] in [0, 1] -> logits [batch, 10].
    """
    keras.utils.set_random_seed(0)
    layers = keras.layers
    convolutions = [
        layers.Conv2D(filters, 3, strides, activation="relu", kernel_initializer="he_normal")
        for filters, strides in ((32, 1), (32, 2), (64, 1), (64, 2))
    ]
    classifier = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 1)),
            *convolutions,
            layers.Flatten(),
            layers.Dense(200, activation="relu"),
            layers.Dense(CLASSES),
        ]
    )
    images, labels = Digits(size=SIZE).load_train(None)
    objective = Standard() if defense is None else Adversarial()
    warm_up = 0 if defense is None else steps // 2
    model = RobustModel(classifier, defense, objective, strength_warmup=warm_up)
    model.compile(keras.optimizers.Adam(1e-3))
    draws = np.random.default_rng(0).integers(len(images), size=64 * steps)
    model.fit(np.float32(images[draws] / 255), labels[draws], batch_size=64, verbose=0)
    return classifier
