"""Projected gradient ascent in pixel balls: optima, starts, step lengths."""

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.neighborhoods import L0, L2, Color, LInf

SEED = (3, 4)


@pytest.fixture
def images():
    """Four 8×8 images with three colors; some values are exactly 0 and exactly 1."""
    values = np.random.default_rng(1).uniform(-0.2, 1.2, (4, 8, 8, 3))
    return np.clip(values, 0, 1).astype(np.float32)


@pytest.fixture
def linear_loss(images):
    """The slope of a linear loss, and the loss: the sum over slope · x."""
    slope = np.random.default_rng(6).normal(size=images.shape).astype(np.float32)
    return slope, lambda moved: tf.reduce_sum(slope * moved, axis=[1, 2, 3])


def test_linf_finds_the_optimum_of_a_linear_loss(images, linear_loss):
    slope, loss = linear_loss
    found = LInf(epsilon=0.1, num_steps=5).maximize(images, loss, SEED)
    np.testing.assert_allclose(
        found.images, np.clip(images + 0.1 * np.sign(slope), 0, 1), atol=1e-6
    )


def test_l2_finds_the_optimum_of_a_linear_loss(images, linear_loss):
    slope, loss = linear_loss
    inner = 0.4 + 0.2 * images  # far from 0 and 1, so that nothing is clipped
    found = L2(epsilon=0.5, num_steps=60, step_size=0.1).maximize(inner, loss, SEED)
    length = np.sqrt(np.sum(slope**2, axis=(1, 2, 3), keepdims=True))
    np.testing.assert_allclose(found.images, inner + 0.5 * slope / length, atol=1e-4)


@pytest.mark.parametrize("size", [1.0, 1e-10, 1e-30])
@pytest.mark.parametrize("ball", [LInf, L2])
def test_the_size_of_the_gradient_does_not_matter(ball, size, images, linear_loss):
    slope, _ = linear_loss
    case = ball(epsilon=0.3, num_steps=3, random_start=False)

    def found_at(factor):
        return case.maximize(images, lambda x: tf.reduce_sum(factor * slope * x, [1, 2, 3]), SEED)

    found = found_at(size).images.numpy()
    np.testing.assert_allclose(found, found_at(1.0).images, atol=1e-5)
    assert np.all(np.any(found != images, axis=(1, 2, 3)))


@pytest.mark.parametrize("ball", [LInf, L2])
def test_without_a_gradient_the_result_is_the_image(ball, images):
    case = ball(epsilon=0.3, num_steps=3, random_start=False)
    found = case.maximize(images, lambda x: 0.0 * tf.reduce_sum(x, [1, 2, 3]), SEED)
    np.testing.assert_array_equal(found.images, images)


@pytest.mark.parametrize("ball", [LInf, L2])
def test_the_ascent_tracks_no_weights(ball, images, monkeypatch):
    tapes, weight = [], tf.Variable(2.0)

    class Recorded(tf.GradientTape):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            tapes.append(self)

    monkeypatch.setattr(tf, "GradientTape", Recorded)
    case = ball(epsilon=0.1, num_steps=3)
    case.maximize(images, lambda x: weight * tf.reduce_sum(x, [1, 2, 3]), SEED)
    assert [tape.watched_variables() for tape in tapes] == [()] * 3


@pytest.mark.parametrize("ball", [LInf, L2])
def test_steps_have_the_given_length(ball, images, linear_loss):
    _, loss = linear_loss
    inner = 0.4 + 0.2 * images
    case = ball(epsilon=1.0, num_steps=3, step_size=0.01, random_start=False)
    found = case.maximize(inner, loss, SEED)
    np.testing.assert_allclose(case.norm(found.parameters), 0.03, rtol=1e-4)
    half = case.maximize(inner, loss, SEED, 0.5)
    np.testing.assert_allclose(case.norm(half.parameters), 0.015, rtol=1e-4)


def test_trades_start_is_normal_noise_with_the_given_width():
    center = tf.fill([40, 8, 8, 2], 0.5)
    drawn = LInf(epsilon=0.3, random_start=0.01).solver.start(center, SEED, 1.0).numpy() - 0.5
    np.testing.assert_allclose([drawn.mean(), drawn.std()], [0, 0.01], atol=3e-4)
    assert abs(np.mean(np.abs(drawn) < 0.01) - 0.683) < 0.01
    # Every start is projected onto the ball.
    near = LInf(epsilon=0.005, random_start=0.01).solver.start(center, SEED, 1.0).numpy() - 0.5
    np.testing.assert_allclose(np.abs(near).max(), 0.005, rtol=1e-4)


@pytest.mark.parametrize(
    "ball",
    [LInf(epsilon=0.1), L2(epsilon=0.7), L0(epsilon=12), LInf(epsilon=0.1, random_start=0.001)],
)
def test_each_image_starts_at_its_own_random_point(ball, images):
    same = np.repeat(images[:1], 4, axis=0)
    drawn = (ball.solver.start(same, SEED) - same).numpy().reshape(4, -1)
    assert len(np.unique(drawn, axis=0)) == 4


@pytest.mark.parametrize(
    ("step_size", "max_steps", "expected"),
    [
        (None, 1, 0.125),  # not 0.25: at most 1.25·ε
        (None, 2, 0.125),
        (None, 4, 0.0625),
        (0.01, 1, 0.04),  # the distance of four steps of 0.01
        (0.01, 2, 0.02),
        (0.01, 4, 0.01),
        (0.2, 1, 0.2),  # longer than 1.25·ε already
    ],
)
def test_fewer_steps_are_longer(step_size, max_steps, expected):
    ball = LInf(epsilon=0.1, num_steps=4, step_size=step_size).with_max_steps(max_steps)
    assert ball.solver.step_size == pytest.approx(expected)
    assert ball.num_steps == max_steps


def test_fewer_steps_on_colors_are_longer_and_on_sparse_balls_are_not():
    assert Color(num_steps=10).with_max_steps(2).solver.step_size == pytest.approx(1.25)
    assert Color(num_steps=10, step_size=0.1).with_max_steps(2).solver.step_size == pytest.approx(
        0.5
    )
    assert Color(num_steps=10, step_size=0.1).with_max_steps(20).solver.step_size == pytest.approx(
        0.1
    )
    assert L0(epsilon=3, num_steps=10).with_max_steps(2).solver.step_size == 0.15
