"""Random and grid search over rotations and translations."""

import numpy as np
import pytest
import tensorflow as tf
from linear_models import SEED, run

from keras_srt.attacks import Criterion, GridAdv, GridAdvR, GridAdvT, RandAdv


def exhaustive(attack, classifier, images, labels):
    """Whether any transform of the grid succeeds, tried one by one on every image."""
    fooled = np.zeros(len(images), bool)
    for point in attack.neighborhood.grid_points():
        points = tf.constant(np.tile(point, (len(images), 1)))
        moved = attack.neighborhood.apply(tf.constant(images), points)
        fooled |= np.argmax(classifier(moved), axis=1) != labels
    return fooled


@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_gridadv_equals_an_exhaustive_search(classifier, pictures, predicted, batch_size):
    attack = GridAdv(grid=(3, 3, 7), max_rotation=8, max_translation=0.6)
    expected = exhaustive(attack, classifier, pictures, predicted)
    assert 3 < expected.sum() < 21
    found, model = run(attack, classifier, pictures, predicted, batch_size=batch_size)
    np.testing.assert_array_equal(found.success, expected)
    # One clean pass, every transform for surviving images, fewer for the others.
    held = (~expected).sum()
    assert held * 63 + 24 <= model.queries < 24 * 64


def test_gridadv_finds_the_only_adversarial_transform():
    """Class 1 if a bright pixel is where only one shift moves it."""
    image = np.zeros((1, 9, 9, 1), np.float32)
    image[0, 4, 4, 0] = 1.0

    def logits(images):
        there = images[:, 6, 2, 0]  # two pixels down, two to the left
        return tf.stack([0.5 * tf.ones_like(there), there], axis=1)

    attack = GridAdv(grid=(5, 5, 3), max_translation=2, max_rotation=0)
    found, _ = run(attack, logits, image, np.int32([0]))
    assert found.success.all()
    np.testing.assert_allclose(found.parameters, [[0, -2, 2]], atol=1e-6)
    smaller = GridAdv(grid=(5, 5, 3), max_translation=1, max_rotation=0)
    assert not run(smaller, logits, image, np.int32([0]))[0].success.any()


def test_a_failure_keeps_the_transform_of_the_highest_loss():
    image = np.zeros((1, 9, 9, 1), np.float32)
    image[0, 4, 4, 0] = 1.0

    def logits(images):
        return tf.stack([2.0 * tf.ones_like(images[:, 0, 0, 0]), images[:, 4, 6, 0]], axis=1)

    attack = GridAdv(grid=(5, 5, 1), max_translation=2, max_rotation=0)
    found, model = run(attack, logits, image, np.int32([0]))
    assert not found.success.any()
    np.testing.assert_allclose(found.parameters, [[0, 2, 0]], atol=1e-6)
    assert model.queries == 1 + 25


def test_randadv_draws_for_each_image_separately():
    same = np.repeat(np.random.default_rng(9).random((1, 8, 8, 1), np.float32), 6, axis=0)
    brightness = lambda x: tf.stack(  # noqa: E731
        [5.0 + 0 * x[:, 0, 0, 0], tf.reduce_mean(x, [1, 2, 3])], axis=1
    )
    # Nothing succeeds; losses differ only because of the draws.
    found, _ = run(RandAdv(num_samples=3), brightness, 1 - same / 2, np.ones(6, np.int32) * 0)
    draws = RandAdv(num_samples=3).candidates(np.zeros((6, 8, 8, 1)), tf.constant(SEED))
    draws = np.asarray(draws)
    assert draws.shape == (3, 6, 3)
    assert len(np.unique(draws[..., 0])) == 18
    assert np.abs(draws[..., 0]).max() <= 30
    assert np.abs(draws[..., 1:]).max() <= 3
    for image in range(6):
        mine = found.parameters[image]
        assert not mine.any() or any(np.allclose(mine, draw) for draw in draws[:, image])


def test_more_draws_never_lower_success(classifier, pictures, predicted):
    fooled = [
        run(
            RandAdv(num_samples=k, max_rotation=5, max_translation=0.5),
            classifier, pictures, predicted,
        )[0].success
        for k in (1, 3, 12)
    ]  # fmt: skip
    assert np.all(fooled[0] <= fooled[1])
    assert np.all(fooled[1] <= fooled[2])
    assert fooled[0].sum() < fooled[2].sum()


def two_spots(images):
    """Class 1 if the pixel two to the right is bright, class 2 if the one two down is."""
    low = 0.5 * tf.ones_like(images[:, 0, 0, 0])
    return tf.stack([low, images[:, 4, 6, 0], images[:, 6, 4, 0]], axis=1)


def test_searches_find_the_transform_of_their_target():
    image = np.zeros((1, 9, 9, 1), np.float32)
    image[0, 4, 4, 0] = 1.0
    attack = GridAdv(grid=(5, 5, 1), max_translation=2, max_rotation=0)
    for target, moved in ((1, [0, 2, 0]), (2, [0, 0, 2])):
        found, _ = run(attack, two_spots, image, [0], [target])
        assert found.success.all()
        np.testing.assert_allclose(found.parameters, [moved], atol=1e-6)
    smaller = GridAdv(grid=(3, 3, 1), max_translation=1, max_rotation=0)
    assert not run(smaller, two_spots, image, [0], [2])[0].success.any()
    # None of the successes reaches a target whose logit is constant.
    blind = lambda x: two_spots(x) * [1.0, 1.0, 0.0]  # noqa: E731
    assert run(attack, blind, image, [0])[0].success.all()
    assert not run(attack, blind, image, [0], [2])[0].success.any()


def test_random_draws_reach_targets():
    image = np.zeros((1, 9, 9, 1), np.float32)
    image[0, 3:6, 3:6, 0] = 1.0
    attack = RandAdv(num_samples=60, max_rotation=0, max_translation=2)
    for target in (1, 2):
        found, _ = run(attack, two_spots, image, [0], [target])
        assert found.success.all()
        assert np.argmax(two_spots(found.images), axis=1) == [target]


SEARCHES = {
    "gridadv": GridAdv(grid=(3, 3, 5), max_rotation=20, max_translation=2),
    "gridadv_r": GridAdvR(points=7),
    "gridadv_t": GridAdvT(points=3),
    "randadv": RandAdv(),
}


@pytest.mark.parametrize("attack", SEARCHES.values(), ids=SEARCHES)
def test_a_search_never_lowers_the_loss_unless_it_succeeds(attack, classifier, pictures, predicted):
    result, model = run(attack, classifier, pictures, predicted)
    before, after = (
        model.predictions(x, Criterion(predicted)).loss for x in (pictures, result.images)
    )
    assert np.all((after >= before - 1e-5) | result.success)


@pytest.mark.parametrize("name", ["gridadv", "gridadv_r", "gridadv_t"])
def test_success_does_not_depend_on_the_batch(name, classifier, pictures, predicted):
    whole, _ = run(SEARCHES[name], classifier, pictures, predicted)
    parts = [
        run(SEARCHES[name], classifier, pictures[i : i + 8], predicted[i : i + 8], batch_size=7)
        for i in range(0, len(pictures), 8)
    ]
    success = np.concatenate([result.success for result, _ in parts])
    np.testing.assert_array_equal(success, whole.success)
