"""Noise: how it is distributed, where it is cut off, and the worst of several draws."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from keras_srt.core.errors import InvalidSettings
from keras_srt.neighborhoods import Noise, Passes

SEED = (3, 4)
MANY = tf.fill([4, 60, 60, 1], 0.5)


def drawn(**settings):
    return np.float64(Noise(**settings).sample(MANY, SEED)).ravel()


def test_uniform_noise_fills_its_range():
    values = drawn(epsilon=0.2)
    assert np.abs(values).max() <= 0.2
    assert stats.kstest(values, stats.uniform(-0.2, 0.4).cdf).pvalue > 0.01


@pytest.mark.parametrize(
    ("sigma", "epsilon", "cut"), [(0.1, None, 3), (0.1, 0.05, 0.5), (0.1, 1, 10)]
)
def test_normal_noise_is_truncated_and_not_piled_up(sigma, epsilon, cut):
    values = drawn(sigma=sigma, epsilon=epsilon)
    assert np.abs(values).max() <= cut * sigma * (1 + 1e-6)
    expected = stats.truncnorm(-cut, cut, scale=sigma)
    assert stats.kstest(values, expected.cdf).pvalue > 0.01


def test_every_image_and_seed_has_its_own_draw():
    noise = Noise(epsilon=0.2)
    first = noise.sample(MANY, SEED).numpy().reshape(4, -1)
    assert len(np.unique(first, axis=0)) == 4
    assert not np.array_equal(noise.sample(MANY, (3, 5)).numpy().reshape(4, -1), first)
    np.testing.assert_allclose(noise.sample(MANY, SEED, 0.5).numpy().reshape(4, -1), first / 2)


def test_one_draw_asks_no_model(images):
    noise = Noise(sigma=0.1)

    def never(_):
        raise AssertionError("the model was called")

    found = noise.maximize(images, never, SEED)
    assert found.loss is None
    assert noise.passes == Passes(0, 0)
    np.testing.assert_array_equal(found.images, np.clip(images + found.parameters, 0, 1))


def test_of_several_draws_the_worst_is_taken(images):
    noise = Noise(epsilon=0.3, num_samples=4)
    loss = lambda x: tf.reduce_sum(x**2, [1, 2, 3])  # noqa: E731
    candidate = noise.solver.candidates(tf.constant(images), tf.constant(SEED), 1.0)
    losses = [loss(images), *(loss(noise.apply(images, candidate(k))) for k in range(4))]
    found = noise.maximize(images, loss, SEED)
    np.testing.assert_allclose(found.loss, np.max(losses, axis=0), rtol=1e-6)
    assert noise.passes == Passes(4, 0)


def test_extent_is_the_share_of_the_cutoff():
    r = np.zeros((4, 2, 2, 1))
    r[1, 0, 1], r[2, 1, 1], r[3] = -0.15, 0.33, np.nan
    np.testing.assert_allclose(Noise(sigma=0.1).relative_size(r), [0, 0.5, 1.1, np.inf], rtol=1e-4)
    np.testing.assert_allclose(Noise(epsilon=0.6).relative_size(r)[:3], [0, 0.25, 0.55], rtol=1e-4)


def test_what_is_said_of_it():
    assert Noise(epsilon=0.1).describe() == {
        "type": "single",
        "order": "pixel",
        "range": "uniform noise with |r| <= 0.1 (pixel values in [0, 1])",
        "distance": "dist(T(x), x) = ||r||_inf <= 0.1 (pixel values in [0, 1])",
    }
    assert "normal noise of sigma 0.1 with |r| <= 0.2" in Noise(sigma=0.1, epsilon=0.2).range


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "epsilon: got null with sigma null"),
        ({"epsilon": 2}, "epsilon: got 2"),
        ({"sigma": -1}, "sigma: got -1"),
        ({"epsilon": 0.1, "num_samples": 0}, "num_samples: got 0"),
    ],
)
def test_settings_that_make_no_noise_are_refused(settings, message):
    with pytest.raises(InvalidSettings, match=message):
        Noise(**settings)
