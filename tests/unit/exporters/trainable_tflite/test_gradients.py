"""Values and gradients of the operations equal those of TensorFlow."""

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.exporters.trainable_tflite import gradients


def random_images(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def both(ours, theirs, *inputs):
    """Values and gradients of two functions, under the same upstream gradient."""
    found = []
    for function in (ours, theirs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = function(*inputs)
        upstream = random_images(*value.shape, seed=9)
        found.append((value, *tape.gradient(value, inputs, output_gradients=upstream)))
    return zip(*found, strict=True)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    ("size", "window", "strides"),
    [
        ((8, 8), (3, 3), (1, 1)),
        ((7, 9), (3, 3), (2, 2)),
        ((8, 7), (1, 1), (2, 2)),
        ((9, 8), (4, 2), (1, 1)),
        ((7, 8), (2, 3), (2, 2)),
    ],
)
def test_convolution(size, window, strides, padding):
    x, w = random_images(2, *size, 3), random_images(*window, 3, 4, seed=1)
    for ours, theirs in both(
        lambda x, w: gradients.conv2d(x, w, strides, padding),
        lambda x, w: tf.nn.conv2d(x, w, strides, padding),
        x,
        w,
    ):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("size", "window"), [((8, 8), 2), ((7, 9), 2), ((8, 7), 3), ((4, 4), 1)])
def test_pooling(size, window, padding):
    # Rounded, so that windows have ties, where the gradient goes to one position.
    x = tf.round(random_images(2, *size, 3))
    for ours, theirs in both(
        lambda x: gradients.max_pool(x, window, padding),
        lambda x: tf.nn.max_pool2d(x, window, window, padding),
        x,
    ):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in both(
        lambda x: gradients.average_pool(x, window, padding),
        lambda x: tf.nn.avg_pool2d(x, window, window, padding),
        x,
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_rectifiers_including_zero():
    x = tf.constant([-2.0, -0.0, 0.0, 3.0])
    for ours, theirs in both(gradients.relu, tf.nn.relu, x):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in both(
        lambda x: gradients.leaky_relu(x, 0.1), lambda x: tf.nn.leaky_relu(x, 0.1), x
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2, 3)])
def test_standardization(shape):
    def written_out(x):
        mean, variance = tf.nn.moments(x, list(range(len(shape) - 1)))
        return (x - mean) / tf.sqrt(variance + 1e-3)

    for ours, theirs in both(
        lambda x: gradients.standardize(x, 1e-3)[0], written_out, random_images(*shape)
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
