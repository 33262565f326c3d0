"""Fixtures that several test files share: small images, small models, prepared datasets."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

NUM_CLASSES = 3


@pytest.fixture(scope="session", autouse=True)
def full_precision():
    """On a GPU, TF32 would hide behind its rounding what the tests compare to 1e-6."""
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(False)


@pytest.fixture(autouse=True)
def seeded():
    """Initial weights are the same whichever tests run."""
    from keras_srt.core.tensorflow import keras

    keras.utils.set_random_seed(0)


@pytest.fixture
def images():
    """Four 8×8 images with two channels; some values are exactly 0 and exactly 1."""
    values = np.random.default_rng(1).uniform(-0.2, 1.2, (4, 8, 8, 2))
    return np.clip(values, 0, 1).astype(np.float32)


@pytest.fixture
def labels():
    """Class ids of `images`."""
    return np.int32([0, 1, 2, 1])


@pytest.fixture
def unlabeled():
    """Six more images, of the shape of `images`."""
    return np.random.default_rng(2).random((6, 8, 8, 2), np.float32)


@pytest.fixture
def make_classifier():
    """Makes a small Keras classifier with one convolution and, if wanted, BatchNorm."""
    from keras_srt.core.tensorflow import keras

    def make(batch_norm=True, activation="tanh"):
        layers = [keras.layers.Conv2D(4, 3, activation=activation)]
        layers += [keras.layers.BatchNormalization()] if batch_norm else []
        layers += [keras.layers.Flatten(), keras.layers.Dense(NUM_CLASSES)]
        return keras.Sequential([keras.Input((8, 8, 2)), *layers])

    return make


@pytest.fixture
def shared_data_dir():
    """Where the prepared TFDS datasets lie on the machine of the developers."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "tfds"
    if not folder.is_dir():
        pytest.skip(f"the prepared datasets are not on this machine ({folder})")
    return folder
