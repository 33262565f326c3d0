"""Square attack: windows and patterns, linear bounds, masked gradients."""

import numpy as np
import pytest
import tensorflow as tf
from linear_models import (
    SEED,
    constant,
    dual_norm,
    length,
    linear,
    moved,
    predict_classes,
    run,
    without_gradient,
)

from keras_srt.attacks import APGDCE, PGD, Criterion, QueryModel, Square
from keras_srt.attacks.square import _bumps, _Draws, _mask, _paint, _pattern, _stripes, _transfer
from keras_srt.core.errors import InvalidSettings

BALLS = pytest.mark.parametrize("norm_ball", ["linf", "l2"])
generator = np.random.default_rng(12)
WEIGHTS = generator.normal(size=(8, 8, 1, 2))
IMAGES = np.float32(generator.uniform(0.4, 0.6, (30, 8, 8, 1)))
LABELS = predict_classes(linear(WEIGHTS), IMAGES)
AWAY = (WEIGHTS[..., 1] - WEIGHTS[..., 0]).ravel()
SCORE = np.abs((np.float64(IMAGES) - 0.5).reshape(30, -1) @ AWAY)


@BALLS
def test_success_where_it_is_easy_and_never_beyond_the_bound(norm_ball):
    """A change of w·δ by more than ε·‖w‖ is impossible; by a half of it, a search finds it."""
    reach = dual_norm(AWAY, norm_ball)
    epsilon = float(np.quantile(SCORE, 0.7) / reach)
    attack = Square(epsilon=epsilon, norm_ball=norm_ball, queries=800, rescale_schedule=True)
    found, _ = run(attack, linear(WEIGHTS), IMAGES, LABELS)
    share = SCORE / (epsilon * reach)
    assert found.success[share < 0.5].all()
    assert not found.success[share > 1.001].any()
    assert (share < 0.5).sum() > 5
    assert (share > 1.001).sum() > 5
    assert length(moved(found, IMAGES), norm_ball).max() <= epsilon + 1e-6


@BALLS
def test_more_queries_never_lower_the_loss(norm_ball):
    left = []
    for queries in (1, 10, 200):
        attack = Square(epsilon=1e-3, norm_ball=norm_ball, queries=queries)
        found, model = run(attack, linear(WEIGHTS), IMAGES, LABELS)
        logits = model.logits(found.images)
        left.append((logits[:, 0] - logits[:, 1]) * np.where(LABELS == 0, 1, -1))
    assert np.all(left[1] <= left[0] + 1e-6)
    assert np.all(left[2] <= left[1] + 1e-6)
    assert left[2].mean() < left[1].mean() < left[0].mean()


@BALLS
def test_each_image_is_queried_as_often_as_set(norm_ball):
    attack = Square(epsilon=0.1, norm_ball=norm_ball, queries=17)
    found, model = run(attack, constant(2), IMAGES, np.zeros(30, np.int32))
    assert model.queries == 17 * 30
    assert not found.success.any()


def test_images_drop_out_after_a_success():
    attack = Square(epsilon=0.3, queries=400)
    found, model = run(attack, linear(WEIGHTS), IMAGES, LABELS)
    assert found.success.all()
    assert model.queries < 30 * 40


@BALLS
def test_proposals_do_not_depend_on_other_images(norm_ball):
    attack = Square(epsilon=0.05, norm_ball=norm_ball, queries=60)
    flat = LABELS.copy()
    flat[::2] = 1 - flat[::2]  # every other image is adversarial at once, or almost
    every, _ = run(attack, linear(WEIGHTS), IMAGES, LABELS)
    half, _ = run(attack, linear(WEIGHTS), IMAGES, flat)
    np.testing.assert_array_equal(every.images[1::2], half.images[1::2])
    assert half.success[::2].mean() > 0.8


@BALLS
def test_equal_images_get_different_proposals(norm_ball):
    same = np.full((4, 8, 8, 1), 0.5, np.float32)
    attack = Square(epsilon=0.1, norm_ball=norm_ball, queries=1)
    found, _ = run(attack, constant(2), same, np.zeros(4, np.int32))
    other, _ = run(attack, constant(2), same, np.zeros(4, np.int32), seed=[3, 6])
    for i in range(4):
        assert np.abs(found.images[i] - other.images[i]).max() > 0.01
        for j in range(i):
            assert np.abs(found.images[i] - found.images[j]).max() > 0.01


@BALLS
def test_square_succeeds_where_gradients_are_masked(norm_ball):
    model = without_gradient(linear(WEIGHTS), levels=64)
    labels = predict_classes(model, IMAGES)
    epsilon = 0.1 if norm_ball == "linf" else 0.7
    ascents = (
        PGD(epsilon=epsilon, norm_ball=norm_ball),
        APGDCE(epsilon=epsilon, norm_ball=norm_ball),
    )
    blind = [run(attack, model, IMAGES, labels)[0].success.mean() for attack in ascents]
    square = Square(epsilon=epsilon, norm_ball=norm_ball, queries=500, rescale_schedule=True)
    seen = run(square, model, IMAGES, labels)[0].success.mean()
    assert max(blind) < 0.7
    assert seen == 1.0


def test_a_query_model_is_enough():
    attack = Square(epsilon=0.05, queries=50)
    found, _ = run(attack, linear(WEIGHTS), IMAGES, LABELS)
    model = QueryModel(lambda images: linear(WEIGHTS)(images).numpy())
    same = attack.run(model, IMAGES, Criterion(LABELS), tf.constant(SEED))
    np.testing.assert_array_equal(found.success, same.success)
    np.testing.assert_allclose(found.images, same.images, atol=1e-6)
    assert same.success.sum() > 0


@BALLS
def test_targets_are_reached(norm_ball):
    weights = np.random.default_rng(5).normal(size=(8, 8, 1, 4))
    labels = predict_classes(linear(weights), IMAGES)
    targets = np.int32((labels + 1) % 4)
    epsilon = 0.3 if norm_ball == "linf" else 2.5
    attack = Square(epsilon=epsilon, norm_ball=norm_ball, queries=300)
    found, _ = run(attack, linear(weights), IMAGES, labels, targets=targets)
    np.testing.assert_array_equal(
        found.success, predict_classes(linear(weights), found.images) == targets
    )
    assert found.success.mean() > 0.9


def test_nan_logits_are_adversarial():
    def broken(images):
        return tf.where(images[:, 0, 0] > 0.5, np.nan, [1.0, 0.0])

    dark = np.full((5, 8, 8, 1), 0.45, np.float32)
    attack = Square(epsilon=0.2, queries=200)
    assert run(attack, broken, dark, np.zeros(5, np.int32))[0].success.all()


# The schedule, windows and patterns.


def test_shares_are_the_reference_schedule():
    attack = Square(epsilon=0.1, p_init=0.8)
    steps = (0, 10, 11, 50, 51, 200, 201, 501, 1001, 2001, 4001, 4998)
    halvings = (0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 7)
    assert [attack.share(step) for step in steps] == [0.8 / 2**k for k in halvings]
    rescaled = Square(epsilon=0.1, queries=1000, rescale_schedule=True)
    assert [rescaled.share(step) for step in (0, 1, 2, 801, 999)] == [
        0.8 / 2**k for k in (0, 0, 1, 9, 9)
    ]


def draws(count, seed=4):
    return _Draws(tf.constant([seed, 0]), count)


def test_linf_proposals_are_windows_at_the_edge_of_the_ball():
    images = np.float32(generator.uniform(0.3, 0.7, (50, 9, 7, 3)))
    start = _stripes(images, 0.1, draws(50))
    np.testing.assert_allclose(np.abs(start - images), 0.1, atol=1e-6)
    signs = np.sign(start - images)
    assert np.all(signs == signs[:, :1])  # whole columns
    assert 0.4 < np.mean(signs[:, 0] > 0) < 0.6
    changed = _paint(images, start, 0.1, 9 / 63, draws(50, 5))
    np.testing.assert_allclose(np.abs(changed - images), 0.1, atol=1e-6)
    where = np.abs(changed - start).max(axis=-1) > 1e-6
    rows, columns = where.any(axis=2).sum(axis=1), where.any(axis=1).sum(axis=1)
    assert max(rows.max(), columns.max()) == 3
    touched = where.any(axis=0)
    assert touched[0].any()
    assert touched[-1].any()  # the last row and column, too
    assert touched[:, -1].any()


def test_l2_proposals_keep_the_norm_and_empty_a_window():
    images = np.float32(generator.uniform(0.45, 0.55, (40, 10, 10, 3)))
    start = _bumps(images, 0.4, draws(40))
    first = (start - images).reshape(40, -1)
    np.testing.assert_allclose(length(first, "l2"), 0.4, rtol=1e-5)
    changed = _transfer(images, start, 0.4, 0.09, draws(40, 5))
    np.testing.assert_allclose(length((changed - images).reshape(40, -1), "l2"), 0.4, rtol=1e-5)
    emptied = (np.abs(start - images) > 1e-6) & (np.abs(changed - images) < 1e-7)
    assert emptied.any(axis=(1, 2, 3)).mean() > 0.8
    # A window to empty and a window to fill, of 3×3 pixels each; nothing beside them.
    touched = (np.abs(changed - start).max(axis=-1) > 1e-5).sum(axis=(1, 2))
    assert touched.min() >= 9
    assert touched.max() == 18


def test_windows_fit_and_reach_every_pixel():
    corners = draws(500).corners(5, 4, 3)
    inside = _mask(corners, 3, (500, 5, 4, 1))
    assert np.all(inside.sum(axis=(1, 2, 3)) == 9)
    assert inside.any(axis=0).all()


def test_the_pattern_of_two_pixels_by_hand():
    """Above the row of one hill, [1/4, 1 + 1/4]; below it the same as a valley."""
    hill = np.array([0.25, 1.25]) / np.hypot(0.25, 1.25)
    np.testing.assert_allclose(_pattern(2), np.array([hill, -hill]) / np.sqrt(2), rtol=1e-6)
    np.testing.assert_allclose(_pattern(1), [[-1.0]])


@pytest.mark.parametrize("side", [1, 2, 3, 5, 8, 21])
def test_patterns_are_a_hill_over_a_valley_of_length_one(side):
    pattern = _pattern(side)
    assert pattern.shape == (side, side)
    np.testing.assert_allclose(np.square(pattern).sum(), 1, rtol=1e-6)
    assert np.all(pattern[: side // 2] > 0)
    assert np.all(pattern[side // 2 :] < 0)


@BALLS
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 1), (3, 7, 2), (8, 3, 3)], ids=str)
def test_images_of_any_shape(norm_ball, shape):
    images = np.float32(generator.uniform(0, 1, (4, *shape)))
    bright = lambda x: tf.stack([0.9 + 0 * x[:, 0, 0, 0], tf.reduce_mean(x, [1, 2, 3])], 1)  # noqa: E731
    attack = Square(epsilon=0.2, norm_ball=norm_ball, queries=25)
    found, _ = run(attack, bright, images, np.zeros(4, np.int32))
    assert found.images.shape == images.shape
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    assert length(moved(found, images), norm_ball).max() <= 0.2 + 1e-6


@pytest.mark.parametrize(
    "wrong", [{"queries": 0}, {"p_init": 2}, {"norm_ball": "l0"}, {"epsilon": -1}], ids=str
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidSettings, match=next(iter(wrong))):
        Square(**{"epsilon": 0.1, **wrong})
