"""Images and a small classifier for the tests of attacks."""

import numpy as np
import pytest
import tensorflow as tf


@pytest.fixture(scope="session")
def pictures():
    """24 smooth images of 8×8 pixels; some values are exactly 0 and exactly 1."""
    coarse = np.random.default_rng(5).uniform(-0.3, 1.3, (24, 2, 2, 1))
    return np.clip(tf.image.resize(coarse, (8, 8)), 0, 1).astype(np.float32)


@pytest.fixture(scope="session")
def classifier():
    """A curved, smooth function: some pictures are close to the boundary of their class."""
    generator = np.random.default_rng(6)
    smooth = tf.image.resize(0.3 * generator.normal(size=(16, 2, 2, 1)), (8, 8))
    first = tf.transpose(tf.reshape(smooth, [16, 64]))
    second = tf.constant(generator.normal(size=(16, 3)), tf.float32)

    def logits(images):
        flat = tf.reshape(images, [-1, 64]) - 0.5
        return tf.tanh(flat @ first) @ second

    return logits


@pytest.fixture(scope="session")
def predicted(classifier, pictures):
    """The classifier's predictions for the pictures."""
    return np.int32(np.argmax(classifier(pictures), axis=1))


@pytest.fixture(scope="session")
def gray():
    """20 images of 4×4 pixels, far from 0 and 1."""
    return np.float32(np.random.default_rng(1).uniform(0.4, 0.6, (20, 4, 4, 1)))
