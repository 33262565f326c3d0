"""A small classifier for device tests, its labels and expected probabilities."""

import numpy as np
from PIL import Image

from keras_srt.core.images import decode_image
from keras_srt.core.tensorflow import keras

NAMES = ("cat", "Wörter mit Ü", "two\nlines")
LABELS = ["cat", "Wörter mit Ü", "two lines"]


def expected_of(classifier, path):
    image = decode_image(path.read_bytes(), (8, 8, 3))
    logits = np.float64(classifier(image[None], training=False)[0])
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def make_classifier():
    import tensorflow as tf

    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    x = keras.layers.Flatten()(x)
    made = keras.Model(inputs, keras.layers.Dense(3, kernel_initializer="he_normal")(x))
    noise = np.random.default_rng(0).random((50, 8, 8, 3), np.float32)
    made.layers[-1].bias.assign(-tf.reduce_mean(made(noise), axis=0))
    return made


def write_pictures(folder):
    """Write three PNG files whose sizes differ from the classifier's."""
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (12 + i, 9, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return sorted(folder.iterdir())
