"""Rotations and translations: random draws and grids."""

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.neighborhoods import Spatial

SEED = (3, 4)
TURN = Spatial(max_rotation=20, max_translation=1.5, num_samples=4)
GRID = Spatial(max_rotation=20, max_translation=1.5, search="grid", grid=(3, 1, 3))


@pytest.fixture
def images():
    """Four 8×8 images with three colors; some values are exactly 0 and exactly 1."""
    values = np.random.default_rng(1).uniform(-0.2, 1.2, (4, 8, 8, 3))
    return np.clip(values, 0, 1).astype(np.float32)


@pytest.fixture
def loss_fn(images):
    """A smooth loss of each image with a different slope at each pixel."""
    weights = np.random.default_rng(5).normal(size=(*images.shape[1:], 3)).astype(np.float32)
    return lambda moved: tf.reduce_logsumexp(tf.tensordot(moved, weights, 3), axis=-1)


def test_each_image_has_its_own_random_draw():
    draws = TURN.sample(tf.zeros([1000, 1, 1, 1]), SEED).numpy()
    assert len(np.unique(draws[:, 0])) > 990
    assert np.all(np.abs(draws) <= [20, 1.5, 1.5])
    # Uniform over the whole range: mean 0, standard deviation limit / sqrt(3).
    np.testing.assert_allclose(draws.mean(0) / [20, 1.5, 1.5], 0, atol=0.06)
    np.testing.assert_allclose(draws.std(0) / [20, 1.5, 1.5], 3**-0.5, atol=0.03)
    np.testing.assert_array_equal(TURN.sample(tf.zeros([1000, 1, 1, 1]), SEED, 0.5), draws / 2)


def test_the_grid_is_even_and_includes_both_ends():
    grid = Spatial(max_rotation=30, max_translation=3, search="grid").grid_points()
    assert grid.shape == (775, 3)
    np.testing.assert_array_equal(np.unique(grid[:, 0]), np.arange(-30, 31, 2))
    for axis in (1, 2):
        np.testing.assert_array_equal(np.unique(grid[:, axis]), [-3, -1.5, 0, 1.5, 3])
    assert len(np.unique(grid, axis=0)) == 775


def test_the_grid_counts_are_translations_right_and_down_then_rotations():
    grid = Spatial(max_rotation=30, max_translation=3, search="grid", grid=(3, 2, 1)).grid_points()
    np.testing.assert_array_equal(np.unique(grid[:, 0]), [0])
    np.testing.assert_array_equal(np.unique(grid[:, 1]), [-3, 0, 3])
    np.testing.assert_array_equal(np.unique(grid[:, 2]), [-3, 3])


def test_grid_search_finds_the_highest_loss_of_all_candidates(images, loss_fn):
    found = GRID.maximize(images, loss_fn, SEED)
    losses = [loss_fn(images).numpy()]
    for point in GRID.grid_points():
        losses.append(loss_fn(GRID.apply(images, np.tile(point, (4, 1)))).numpy())
    np.testing.assert_allclose(found.loss, np.max(losses, axis=0), rtol=1e-6)
