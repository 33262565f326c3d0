"""Searches with builtin operations against those of the neighborhoods."""

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.exporters.trainable_tflite import search
from keras_srt.neighborhoods import L2, LInf, Spatial
from keras_srt.neighborhoods.draws import fold
from keras_srt.neighborhoods.geometry import rotate_and_translate

SEED = (3, 4)


@pytest.fixture
def images():
    return tf.constant(np.random.default_rng(1).random((4, 7, 10, 2)), tf.float32)


def loss_fn(moved):
    weights = np.random.default_rng(5).normal(size=(7, 10, 2, 3)).astype(np.float32)
    return tf.reduce_logsumexp(tf.tensordot(moved, weights, 3), axis=-1)


@pytest.mark.parametrize(
    "parameters", [(0, 0, 0), (90, 0, 0), (0, 3, -2), (37, 1.25, -0.5), (180, 40, 0), (-5, 0.5, 9)]
)
def test_the_warp_is_that_of_the_neighborhood(parameters, images):
    parameters = tf.tile(tf.constant([parameters], tf.float32), [4, 1])
    expected = rotate_and_translate(images, parameters)
    # Coordinates are rounded to 1e-6 pixels.
    found = search.rotate_and_translate(images, parameters)
    np.testing.assert_allclose(found, expected, atol=5e-6)


@pytest.mark.parametrize(("ball", "name"), [(LInf(0.1), "linf"), (L2(0.7), "l2")])
def test_the_ascent_is_that_of_the_neighborhood(ball, name, images):
    noise = type(ball)(1.0).sample(images, SEED)
    found = search.ascend(
        images, loss_fn, name, ball.num_steps, noise, ball.epsilon, ball.solver.step_size
    )
    np.testing.assert_allclose(found, ball.maximize(images, loss_fn, SEED).images, atol=2e-6)


def test_l2_stays_where_the_gradient_is_0(images):
    found = search.ascend(
        images, lambda x: tf.reduce_sum(0.0 * x, [1, 2, 3]), "l2", 2, 0.0 * images, 0.5, 0.2
    )
    np.testing.assert_array_equal(found, images)


def test_the_worst_transform_is_that_of_the_neighborhood(images):
    space = Spatial(30, max_translation=2, num_samples=5)
    unit = Spatial(1.0, max_translation=1.0)
    draws = tf.stack([unit.sample(images, fold(tf.constant(SEED), k)) for k in range(5)])
    found = search.worst_transform(images, loss_fn, draws, space.limits, loss_fn(images))
    expected = space.maximize(images, loss_fn, tf.constant(SEED)).images
    np.testing.assert_allclose(found, expected, atol=5e-6)


def test_an_image_that_is_worst_is_kept(images):
    draws = tf.ones([3, 4, 3])

    def closeness(moved):
        return -tf.reduce_sum(tf.square(moved - images), axis=[1, 2, 3])

    found = search.worst_transform(images, closeness, draws, [30.0, 2, 2], closeness(images))
    np.testing.assert_array_equal(found, images)
