"""JSMA: the best pair by hand and by brute force."""

import itertools
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf
from linear_models import affine, run

from keras_srt.attacks import JSMA
from keras_srt.attacks.jsma import best_pairs
from keras_srt.core.errors import InvalidSettings


def brute_force(gain, drop, free):
    """The largest product of all pairs, written out; 0 if no pair will do."""
    best = 0.0
    for p, q in itertools.combinations(np.flatnonzero(free), 2):
        u, v = gain[p] + gain[q], drop[p] + drop[q]
        if u > 0 and v > 0:
            best = max(best, u * v)
    return best


KINDS = {
    "independent": lambda g: g.normal(size=(2, 40, 11)),
    "equal": lambda g: np.array([1, 1])[:, None, None] * g.normal(size=(1, 40, 11)),
    "opposed": lambda g: np.array([1, -1])[:, None, None] * g.normal(size=(1, 40, 11)) + 0.5,
    "ties": lambda g: np.float64(g.integers(-2, 3, (2, 40, 11))),
    "negative": lambda g: -np.abs(g.normal(size=(2, 40, 11))),
    "one good value": lambda g: np.where(np.arange(11) == 3, 5.0, g.uniform(-6, -1, (2, 40, 11))),
    "tiny": lambda g: 1e-30 * g.normal(size=(2, 40, 11)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
def test_the_best_pair_equals_brute_force(kind, share):
    generator = np.random.default_rng(8)
    gain, drop = KINDS[kind](generator)
    free = generator.random(gain.shape) < share
    pairs, exists = best_pairs(gain, drop, free)
    for row, (p, q) in enumerate(pairs):
        expected = brute_force(gain[row], drop[row], free[row])
        assert exists[row] == (expected > 0)
        if exists[row]:
            assert p != q
            assert free[row, p]
            assert free[row, q]
            score = (gain[row, p] + gain[row, q]) * (drop[row, p] + drop[row, q])
            assert score == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("opposed", [False, True])
def test_the_search_for_pairs_needs_little_memory(opposed):
    generator = np.random.default_rng(9)
    size = 600 if opposed else 3072
    gain = generator.normal(size=(4, size))
    drop = 1 - gain if opposed else generator.normal(size=(4, size))
    free = np.ones((4, size), bool)
    tracemalloc.start()
    best_pairs(gain, drop, free)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # 4 · size² numbers would be 11 and 302 MB.
    assert peak < 20 * gain.nbytes


RISE, FALL = np.array([1.0, 4, 0.5, 2]), np.array([4.0, 0.5, 3, 2])


def four_pixels(lead, sign=1.0):
    """f = (lead - b·r, a·r, -100 - …) for the first four values, r = how far they moved."""
    fall_of_0 = np.array([3.0, 0.5, 2, 2])

    def logits(images):
        moved = tf.reshape(images, [-1, 16])[:, :4] - (0.0 if sign > 0 else 1.0)
        moved = tf.cast(sign * moved, tf.float32)
        sums = [tf.reduce_sum(moved * w, axis=1) for w in (fall_of_0, RISE, FALL - fall_of_0)]
        return tf.stack([lead - sums[0], sums[1], -100 - sums[2]], axis=1)

    return logits


@pytest.mark.parametrize("theta", [1.0, -1.0])
@pytest.mark.parametrize("targets", [None, [1]], ids=["untargeted", "targeted"])
def test_the_first_pair_by_hand(theta, targets):
    """(1 + 4)·(4 + ½) = 22.5; the next best are 18 and 15.75. f_1 = 5 then beats 8 - 3.5."""
    image = np.full((1, 4, 4, 1), 0.0 if theta > 0 else 1.0, np.float32)
    found, model = run(JSMA(epsilon=2, theta=theta), four_pixels(8.0, theta), image, [0], targets)
    expected = np.array(image)
    expected[0, 0, :2, 0] += theta
    np.testing.assert_array_equal(found.nearest, expected)
    assert found.success.all()
    if targets:
        # The clean prediction, the logits, two for the pair, one for its result, one at the end.
        assert model.queries == 1 + 1 + 2 + 1 + 1


def test_the_second_pair_by_hand():
    """After 22.5 of (0, 1): (2, 3) has 12.5; f_1 = 7.5 then beats 14 - 7.5."""
    image = np.zeros((1, 4, 4, 1), np.float32)
    found, _ = run(JSMA(epsilon=4), four_pixels(14.0), image, [0], [1])
    np.testing.assert_array_equal(found.nearest.reshape(-1), [1, 1, 1, 1] + [0] * 12)
    for gamma, fooled in ((0.24, False), (0.25, True)):
        found, _ = run(JSMA(epsilon=4, gamma=gamma), four_pixels(14.0), image, [0], [1])
        assert found.success.all() == fooled
    # No pair is left that helps.
    found, _ = run(JSMA(epsilon=4), four_pixels(16.0), image, [0], [1])
    assert not found.success.any()
    np.testing.assert_array_equal(found.nearest, image)


def test_values_change_by_theta_up_to_the_bound():
    """(0, 1) goes by 0.4 as long as it is inside: f_1 = 4 beats 7.3 - 2.8 at 0.8."""
    image = np.zeros((1, 4, 4, 1), np.float32)
    found, _ = run(JSMA(epsilon=2, theta=0.4), four_pixels(6.7), image, [0], [1])
    np.testing.assert_allclose(found.nearest.reshape(-1)[:5], [0.8, 0.8, 0, 0, 0], atol=1e-6)
    full, _ = run(JSMA(epsilon=2, theta=0.4), four_pixels(8.0), image, [0], [1])
    np.testing.assert_allclose(full.nearest.reshape(-1)[:5], [1, 1, 0, 0, 0], atol=1e-6)


def test_untargeted_equals_the_best_target(gray):
    weights = np.random.default_rng(10).normal(size=(16, 4))
    classifier = affine(weights, [2.5, 0, 0, 0])
    labels = np.int32(np.argmax(classifier(gray), axis=1))
    untargeted, model = run(JSMA(epsilon=16), classifier, gray, labels)
    counts, queries = [], 0
    for turn in range(1, 4):
        one, its = run(JSMA(epsilon=16), classifier, gray, labels, (labels + turn) % 4)
        changed = np.count_nonzero(one.nearest - gray, axis=(1, 2, 3))
        counts.append(np.where(one.success, changed, np.inf))
        queries += its.queries
    # Untargeted, passing a third class is a success, too, so that the result may be better.
    best = np.min(counts, axis=0)
    changed = np.count_nonzero(untargeted.nearest - gray, axis=(1, 2, 3))
    assert untargeted.success.all()
    assert np.all(changed <= best)
    assert np.mean(changed == best) > 0.7
    assert len(np.unique(np.argmin(counts, axis=0))) > 1
    assert model.queries < queries


def test_a_turn_ends_when_it_can_not_improve():
    """Each of the classes 1 and 2 needs one pair: (0, 1) or (2, 3)."""

    def logits(images):
        flat = tf.reshape(images, [-1, 16])[:, :4]
        one, two = flat[:, 0] + flat[:, 1], flat[:, 2] + flat[:, 3]
        return tf.stack([2.5 - one - two, one, two - 0.1], axis=1)

    image = np.zeros((1, 4, 4, 1), np.float32)
    for target, queries in ((None, 8), ([1], 6), ([2], 6)):
        found, model = run(JSMA(epsilon=2), logits, image, [0], target)
        assert found.success.all()
        first = 2 if target == [2] else 0
        np.testing.assert_array_equal(np.flatnonzero(found.nearest), [first, first + 1])
        # The clean prediction, the logits, two for a pair, one for its result, one at the end; the
        # second turn queries two for its pair and no result.
        assert model.queries == queries


@pytest.mark.parametrize("wrong", [{"theta": 0}, {"theta": 1.5}, {"gamma": 2}, {"gamma": -0.1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidSettings, match=next(iter(wrong))):
        JSMA(epsilon=1, **wrong)
