"""The L∞ ball and the L2 ball: norms, projections and random points."""

import numpy as np
import pytest

from keras_srt.core.errors import InvalidSettings
from keras_srt.neighborhoods import L2, LInf

SEED = (3, 4)


@pytest.fixture
def images():
    """Four 8×8 images with three colors; some values are exactly 0 and exactly 1."""
    values = np.random.default_rng(1).uniform(-0.2, 1.2, (4, 8, 8, 3))
    return np.clip(values, 0, 1).astype(np.float32)


@pytest.mark.parametrize("ball", [LInf, L2])
def test_projection(ball):
    case = ball(epsilon=0.5)
    center = np.full((3, 8, 8, 2), 0.5, np.float32)
    direction = np.random.default_rng(0).normal(size=center.shape).astype(np.float32)
    direction /= case.norm(direction).numpy()[:, None, None, None]
    scale = 0.5  # a radius of 0.25
    inside = center + 0.2 * direction
    np.testing.assert_allclose(case.project(center, inside, scale), inside, atol=1e-7)
    boundary = center + 0.25 * direction
    np.testing.assert_allclose(case.project(center, boundary, scale), boundary, atol=1e-6)
    outside = case.project(center, center + 0.45 * direction, scale)
    np.testing.assert_allclose(case.norm(outside - center), 0.25, rtol=1e-5)
    again = case.project(center, outside, scale)
    np.testing.assert_allclose(again, outside, atol=1e-7)
    far = case.project(center, center + 100 * direction, 20.0)
    assert np.min(far) >= 0
    assert np.max(far) <= 1


def test_l2_projection_keeps_the_direction(images):
    moved = np.random.default_rng(3).uniform(0.3, 0.7, images.shape).astype(np.float32)
    center = np.full_like(images, 0.5)
    projected = L2(epsilon=1.0).project(center, moved, 0.1) - center
    length = np.sqrt(np.sum((moved - center) ** 2, axis=(1, 2, 3), keepdims=True))
    np.testing.assert_allclose(projected, 0.1 * (moved - center) / length, atol=1e-6)


@pytest.mark.parametrize(
    ("ball", "norms"), [(LInf, [0.0, 4.0, 0.5]), (L2, [0.0, 5.0, 0.5 * 128**0.5])]
)
def test_norms(ball, norms):
    perturbation = np.zeros((3, 8, 8, 2), np.float32)
    perturbation[1, 2, 3, 0], perturbation[1, 7, 7, 1] = 3, -4
    perturbation[2] = -0.5
    np.testing.assert_allclose(ball(epsilon=1.0).norm(perturbation), norms, rtol=1e-6)


def test_linf_samples_are_uniform_in_the_ball():
    center = np.full((50, 8, 8, 2), 0.5, np.float32)
    drawn = LInf(epsilon=0.2).sample(center, SEED).numpy().ravel()
    assert np.all(np.abs(drawn) <= 0.2 + 1e-6)
    np.testing.assert_allclose([drawn.mean(), drawn.std()], [0, 0.2 * 3**-0.5], atol=0.005)


def test_l2_samples_are_uniform_in_the_ball():
    case = L2(epsilon=0.4)
    center = np.full((2000, 1, 2, 1), 0.5, np.float32)
    drawn = case.sample(center, SEED).numpy()
    # In two dimensions, half of the area is within the radius ε/sqrt(2).
    radius = case.norm(drawn).numpy()
    assert np.all(radius <= 0.4 + 1e-6)
    assert abs(np.mean(radius < 0.4 * 0.5**0.5) - 0.5) < 0.04
    np.testing.assert_allclose(drawn.mean(0), 0, atol=0.02)


@pytest.mark.parametrize("start", [0, 1, 1.5, -0.001, "yes", None, float("nan")])
def test_an_invalid_random_start_is_refused(start):
    with pytest.raises(InvalidSettings, match=r"random_start: got .*true or false, or a number"):
        LInf(epsilon=0.1, random_start=start)


def test_the_default_step_crosses_the_ball():
    assert LInf(epsilon=0.4, num_steps=10).solver.step_size == pytest.approx(0.1)
    assert LInf(epsilon=0.4, num_steps=10, step_size=0.02).solver.step_size == 0.02
