"""Pointwise: minimal sets of changed values, and draws."""

import numpy as np
import tensorflow as tf
from linear_models import SEED, affine, run

from keras_srt.attacks import Criterion, Pointwise, QueryModel


def one_pixel(images):
    """Class 1 if the pixel (1, 2) is brighter than 0.5."""
    there = images[:, 1, 2, 0]
    return tf.stack([0.5 + 0 * there, there], axis=1)


def test_only_the_pixel_that_matters_changes():
    images = np.float32(np.random.default_rng(11).uniform(0, 0.4, (6, 4, 4, 1)))
    found, _ = run(Pointwise(epsilon=1), one_pixel, images, np.zeros(6))
    assert found.success.all()
    others = np.ones((4, 4), bool)
    others[1, 2] = False
    np.testing.assert_array_equal(found.nearest[:, others], images[:, others])
    # From 1, ten halvings of the way to the original leave at most 1/1024 of it.
    reached = found.nearest[:, 1, 2, 0]
    assert np.all(reached > 0.5)
    assert np.all(reached <= 0.5 + 1 / 1024)
    whole, _ = run(Pointwise(epsilon=1, bisections=0), one_pixel, images, np.zeros(6))
    np.testing.assert_array_equal(whole.nearest[:, 1, 2, 0], np.ones(6))


def test_only_the_predicted_classes_are_used(gray):
    weights = np.random.default_rng(2).normal(size=(16, 3))
    classifier = affine(weights, [0, 0, 0])
    labels = np.argmax(classifier(gray), axis=1)
    model = QueryModel(lambda images: classifier(images).numpy())
    found = Pointwise(epsilon=16).run(model, gray, Criterion(np.int32(labels)), SEED)
    # Any logits with the same classes will do.
    blunt = QueryModel(lambda images: np.eye(3)[np.argmax(classifier(images), axis=1)])
    again = Pointwise(epsilon=16).run(blunt, gray, Criterion(np.int32(labels)), SEED)
    np.testing.assert_array_equal(found.nearest, again.nearest)
    assert found.success.all()


def test_no_remaining_value_could_be_reset(gray):
    weights = np.random.default_rng(12).normal(size=(16, 3))

    def classifier(images):
        return affine(weights, [1.5, 0, 0])(tf.sin(3 * images))

    labels = np.argmax(classifier(gray), axis=1)
    found, _ = run(
        Pointwise(epsilon=16, restarts=1, noise_draws=0, bisections=0), classifier, gray, labels
    )
    assert found.success.all()
    tried = 0
    for image, original, label in zip(found.nearest, gray, labels, strict=True):
        for place in np.argwhere(image != original):
            less = image.copy()
            less[tuple(place)] = original[tuple(place)]
            assert np.argmax(classifier(less[None]), axis=1) == [label]
            tried += 1
    assert tried > 40


def test_more_restarts_never_need_more_values(gray):
    weights = np.random.default_rng(12).normal(size=(16, 3))
    classifier = affine(weights, [2.5, 0, 0])
    labels = np.argmax(classifier(gray), axis=1)
    counts = []
    for restarts in (1, 2, 5):
        found, _ = run(
            Pointwise(epsilon=16, restarts=restarts, bisections=0), classifier, gray, labels
        )
        counts.append(np.count_nonzero(found.nearest - gray, axis=(1, 2, 3)))
    assert np.all(counts[1] <= counts[0])
    assert np.all(counts[2] <= counts[1])
    assert counts[2].sum() < counts[0].sum()


def test_draws_of_less_noise_shorten_distances(gray):
    """Far from the criterion, in many values, greedy resets end at what the start has."""
    wide = np.float32(np.random.default_rng(13).uniform(0.2, 0.8, (10, 12, 12, 1)))
    generator = np.random.default_rng(14)
    first = tf.constant(generator.normal(size=(144, 24)), tf.float32)
    second = tf.constant(generator.normal(size=(24, 4)), tf.float32)
    classifier = lambda x: tf.sin(tf.reshape(x, [-1, 144]) @ first / 4) @ second  # noqa: E731
    labels = np.argmax(classifier(wide), axis=1)
    counts = []
    for noise_draws in (0, 100):
        attack = Pointwise(epsilon=144, restarts=1, noise_draws=noise_draws, bisections=0)
        found, _ = run(attack, classifier, wide, labels)
        assert found.success.all()
        counts.append(np.count_nonzero(found.nearest != wide, axis=(1, 2, 3)).mean())
    assert counts[1] < 0.9 * counts[0]


def test_each_image_has_its_own_noise_and_order():
    same = np.full((8, 4, 4, 1), 0.5, np.float32)
    classifier = affine(np.stack([np.zeros(16), np.ones(16)], axis=1), [1.2, 0])
    found, _ = run(
        Pointwise(epsilon=16, restarts=1, noise_draws=0, bisections=0),
        classifier,
        same,
        np.zeros(8),
    )
    assert found.success.all()
    assert len(np.unique(found.nearest.reshape(8, -1), axis=0)) > 4
    other, _ = run(
        Pointwise(epsilon=16, restarts=1, noise_draws=0, bisections=0),
        classifier,
        same,
        np.zeros(8),
        seed=tf.constant([3, 6]),
    )
    assert np.any(other.nearest != found.nearest)


def test_another_image_is_the_start_if_noise_never_succeeds(gray):
    """Class 1 has two gray pixels of nearly one value, which salt and pepper never have."""

    def level(images):
        near = tf.abs(images[:, 0, 0, 0] - 0.9) + tf.abs(images[:, 0, 1, 0] - 0.9) < 0.1
        return tf.stack([0.5 + 0 * images[:, 0, 0, 0], tf.cast(near, tf.float32)], axis=1)

    images = np.array(gray[:4])
    images[3, 0, :2] = 0.9
    alone, _ = run(Pointwise(epsilon=16), level, images[:3], np.zeros(3))
    assert not alone.success.any()
    np.testing.assert_array_equal(alone.nearest, images[:3])
    # The fourth is to become class 0, so that it is among those attacked.
    together, _ = run(Pointwise(epsilon=16), level, images, [0, 0, 0, 1])
    assert together.success.all()
    changed = np.argwhere(together.nearest[:3] != images[:3])
    assert set(map(tuple, changed[:, 1:])) == {(0, 0, 0), (0, 1, 0)}
