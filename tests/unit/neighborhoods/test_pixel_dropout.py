"""Lost pixels: what is lost, how many, and the greedy search."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.neighborhoods import PixelDropout

SEED = (3, 4)


def test_a_lost_pixel_is_0_in_all_channels_and_counts_once():
    images = np.full((1, 2, 2, 3), 0.5, np.float32)
    lost = np.float32([[[[0], [1]], [[0], [0]]]])
    space = PixelDropout("1/4")
    moved = space.apply(images, lost).numpy()
    np.testing.assert_array_equal(moved[0, 0, 1], [0, 0, 0])
    assert np.count_nonzero(moved == 0.5) == 9
    assert space.relative_size(lost) == pytest.approx(1, abs=1e-5)
    assert space.contains(lost)
    assert not space.contains(lost, 0.9)
    assert not space.contains(lost / 2)  # half a pixel is no perturbation of this set
    assert np.isinf(space.relative_size(lost / 2))


@pytest.mark.parametrize(("share", "scale", "count"), [(0.25, 1, 16), (0.3, 0.5, 9), (0.01, 1, 0)])
def test_draws_lose_the_largest_number_of_pixels(share, scale, count):
    images = tf.ones([5, 8, 8, 3])
    space = PixelDropout(share)
    lost = space.sample(images, SEED, scale)
    np.testing.assert_array_equal(tf.reduce_sum(lost, [1, 2, 3]), [count] * 5)
    gone = np.all(space.apply(images, lost).numpy() == 0, axis=-1)
    np.testing.assert_array_equal(gone.sum(axis=(1, 2)), [count] * 5)


@pytest.mark.parametrize("num_steps", [1, 3])
def test_the_greedy_search_is_exact_for_a_linear_loss(num_steps):
    generator = np.random.default_rng(6)
    images = np.float32(generator.random((6, 2, 3, 2)))
    slope = np.float32(generator.normal(size=images.shape))

    def loss_fn(x):
        return tf.reduce_sum(slope * x, [1, 2, 3])

    found = PixelDropout(0.5, search="gradient", num_steps=num_steps).maximize(
        images, loss_fn, SEED
    )
    best = loss_fn(images).numpy()
    for chosen in itertools.chain.from_iterable(
        itertools.combinations(range(6), count) for count in range(4)
    ):
        kept = np.ones(6, np.float32)
        kept[list(chosen)] = 0
        best = np.maximum(best, loss_fn(images * kept.reshape(2, 3, 1)))
    np.testing.assert_allclose(found.loss, best, rtol=1e-5)


def test_settings():
    assert PixelDropout("1/8").range == "lost pixels <= 0.125 of the image"
    assert PixelDropout(0.1).describe()["order"] == "pixel"
    assert PixelDropout(0.1, num_samples=1).passes == (0, 0)
    assert PixelDropout(0.1, num_samples=7).passes == (7, 0)
    assert PixelDropout(0.1, search="gradient", num_steps=5).passes == (1, 5)
