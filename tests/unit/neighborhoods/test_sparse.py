"""The L0 ball: how many pixels change, which ones, and its ascent."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.neighborhoods import L0

SEED = (3, 4)


def changed_pixels(moved, images):
    return np.any(np.not_equal(moved, images), axis=-1).sum(axis=(1, 2))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 6])
def test_the_projection_is_the_nearest_image_of_the_ball(count, channels):
    """Against all choices of `count` pixels, one by one."""
    generator = np.random.default_rng(1)
    images = np.float32(generator.random((20, 2, 3, channels)))
    moved = np.float32(images + generator.normal(size=images.shape))
    found = L0(epsilon=count).project(images, moved).numpy()
    distance = np.sum((found - moved) ** 2, axis=(1, 2, 3))
    inside = np.clip(moved, 0, 1)
    nearest = np.full(20, np.inf)
    for chosen in itertools.combinations(range(6), count):
        keep = np.zeros(6, bool)
        keep[list(chosen)] = True
        other = np.where(keep.reshape(1, 2, 3, 1), inside, images)
        nearest = np.minimum(nearest, np.sum((other - moved) ** 2, axis=(1, 2, 3)))
    np.testing.assert_allclose(distance, nearest, rtol=1e-5)
    assert np.all(changed_pixels(found, images) <= count)


def test_values_that_tie_are_no_more_than_allowed():
    images = np.zeros((2, 4, 4, 1), np.float32)
    found = L0(epsilon=3).project(images, images + 1).numpy()
    np.testing.assert_array_equal(np.sum(found != 0, axis=(1, 2, 3)), [3, 3])


def test_what_is_not_chosen_keeps_every_bit(images):
    moved = images + np.float32(np.random.default_rng(2).normal(size=images.shape))
    found = L0(epsilon=5).project(images, moved).numpy()
    np.testing.assert_array_equal(changed_pixels(found, images), [5] * 4)


@pytest.mark.parametrize(("scale", "count"), [(1.0, 10), (0.3, 3), (0.29, 2), (0.05, 0)])
def test_a_share_of_the_ball_has_whole_pixels(images, scale, count):
    found = L0(epsilon=10, num_steps=2).maximize(
        images, lambda x: tf.reduce_sum(x, [1, 2, 3]), SEED, tf.constant(scale)
    )
    np.testing.assert_array_equal(changed_pixels(found.images, images), [count] * 4)


def test_the_ascent_finds_the_optimum_of_a_linear_loss():
    """Those pixels with values at 0 or 1 that gain most, |slope| times the way there."""
    generator = np.random.default_rng(6)
    images = np.float32(generator.random((6, 4, 4, 2)))
    slope = np.float32(generator.normal(size=images.shape))
    found = L0(epsilon=4, num_steps=20, step_size=2.0).maximize(
        images, lambda x: tf.reduce_sum(slope * x, [1, 2, 3]), SEED
    )
    gain = np.where(slope > 0, slope * (1 - images), -slope * images)
    gain = gain.sum(axis=-1).reshape(6, -1)
    best = np.sort(gain, axis=1)[:, -4:].sum(axis=1)
    reached = np.sum(slope * (found.images.numpy() - images), axis=(1, 2, 3))
    # The projection goes by distance and not by gain, so that it may miss some of it.
    assert np.all(reached > 0.9 * best)
    assert np.all(reached <= best * (1 + 1e-5))


def test_a_step_moves_values_by_its_length_on_average(images):
    ball = L0(epsilon=1)
    gradient = np.random.default_rng(1).normal(size=images.shape).astype(np.float32)
    for size in (1.0, 1e-30):
        mean = np.abs(ball.direction(tf.constant(gradient * np.float32(size)))).mean(axis=(1, 2, 3))
        np.testing.assert_allclose(mean, 1, rtol=1e-5)
    np.testing.assert_array_equal(ball.direction(tf.zeros([1, 2, 2, 1])), np.zeros([1, 2, 2, 1]))
    assert (ball.solver.step_size, L0(epsilon=1, step_size=0.4).solver.step_size) == (0.15, 0.4)


def test_starts_change_values_drawn_for_each_image():
    same = np.full((5, 8, 8, 1), 0.5, np.float32)
    changed = L0(epsilon=6).solver.start(same, SEED, 1.0).numpy() != 0.5
    np.testing.assert_array_equal(np.sum(changed, axis=(1, 2, 3)), [6] * 5)
    assert len(np.unique(changed.reshape(5, -1), axis=0)) == 5


def test_norms():
    r = np.zeros((3, 2, 2, 2), np.float32)
    r[1, 0, 1, 0], r[2] = 1e-30, -0.5
    np.testing.assert_array_equal(L0(epsilon=1).norm(r), [0, 1, 4])
    np.testing.assert_array_equal(L0.distance(r), [0, 1, 4])
    np.testing.assert_allclose(L0(epsilon=2).relative_size(r), [0, 0.5, 2], atol=1e-6)
    assert L0(epsilon=4).range == "||r||_0 <= 4 (pixels that change)"
