"""Candidates in bfloat16: the same results as in float32."""

import logging

import numpy as np
import pytest
import tensorflow as tf
from linear_models import SEED, run

from keras_srt import keras
from keras_srt.attacks import Criterion, GridAdv, GridAdvR, RandAdv, TargetModel
from keras_srt.attacks.attack_losses import cross_entropy, evaluate_loss, log_odds
from keras_srt.attacks.rounding import RoundingError
from keras_srt.data import Digits
from keras_srt.models import SmallCNN

SEARCHES = {
    "gridadv": GridAdv(grid=(3, 3, 7), max_rotation=8, max_translation=0.6),
    "gridadv_r": GridAdvR(max_rotation=12, points=31),
    "randadv": RandAdv(num_samples=12, max_rotation=8, max_translation=0.6),
}


class RoundedModel(TargetModel):
    """A model whose bfloat16 logits are those of a function: images, number of the query."""

    def __init__(self, classifier, rounded, batch_size=500):
        super().__init__(classifier, batch_size)
        self.rounding, self._of_query, self.rounded_queries = RoundingError(), rounded, 0

    def rounded_logits(self, images):
        found = np.float32(self._of_query(tf.constant(images), self.rounded_queries))
        self.queries += len(images)
        self.rounded_queries += 1
        return found


def bfloat16(classifier):
    """Inputs and outputs of a classifier, rounded to 8 bits."""
    cast = lambda x: tf.cast(tf.cast(x, tf.bfloat16), tf.float32)  # noqa: E731
    return lambda images, _: cast(classifier(cast(images)))


def attack_rounded(attack, model, images, labels, targets=None):
    return attack.run(model, images, Criterion(np.int32(labels), targets), tf.constant(SEED))


def assert_equal_results(found, expected):
    np.testing.assert_array_equal(found.success, expected.success)
    np.testing.assert_array_equal(found.parameters, expected.parameters)
    np.testing.assert_array_equal(found.images, expected.images)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("batch_size", [7, 500])
@pytest.mark.parametrize("name", SEARCHES)
def test_results_equal_those_of_float32(
    classifier, pictures, predicted, name, batch_size, targeted
):
    targets = (predicted + 1) % 3 if targeted else None
    expected, _ = run(SEARCHES[name], classifier, pictures, predicted, targets, SEED, batch_size)
    model = RoundedModel(classifier, bfloat16(classifier), batch_size)
    found = attack_rounded(SEARCHES[name], model, pictures, predicted, targets)
    assert 0 < expected.success.sum() < 24
    assert 0 < model.rounding.largest < 0.1
    assert_equal_results(found, expected)


def test_most_candidates_are_asked_in_bfloat16_only(classifier, pictures, predicted):
    attack = GridAdv(grid=(5, 5, 7), max_rotation=8, max_translation=0.3)
    _, alone = run(attack, classifier, pictures, predicted)
    model = RoundedModel(classifier, bfloat16(classifier))
    for _ in range(2):
        before = model.queries
        attack_rounded(attack, model, pictures, predicted)
    assert model.queries - before < 1.4 * alone.queries


def test_errors_that_grow_change_no_verdict(classifier, pictures, predicted, caplog):
    """The error is small for the images themselves, then hides every success."""
    label = np.bincount(predicted).argmax()
    images, labels = pictures[predicted == label], predicted[predicted == label]

    def growing(images, query):
        return classifier(images) + (0.001 if query == 0 else 5.0) * np.eye(3)[label]

    attack = SEARCHES["randadv"]
    expected, _ = run(attack, classifier, images, labels)
    assert expected.success.any()
    with caplog.at_level(logging.WARNING):
        found = attack_rounded(attack, RoundedModel(classifier, growing), images, labels)
    np.testing.assert_array_equal(found.success, expected.success)
    assert "bfloat16 differs from float32 by 5, more than the bound" in caplog.text


@pytest.mark.parametrize("size", [100.0, np.inf, np.nan])
def test_large_errors_change_no_verdict_and_end_the_queries_in_bfloat16(
    classifier, pictures, predicted, size
):
    def wrong(images, query):
        noise = np.random.default_rng(query).normal(size=(len(images), 3))
        return classifier(images) + size * noise

    expected, _ = run(SEARCHES["gridadv"], classifier, pictures, predicted)
    model = RoundedModel(classifier, wrong)
    found = attack_rounded(SEARCHES["gridadv"], model, pictures, predicted)
    np.testing.assert_array_equal(found.success, expected.success)
    assert not model.rounding.pays
    asked = model.rounded_queries
    assert_equal_results(attack_rounded(SEARCHES["gridadv"], model, pictures, predicted), expected)
    assert model.rounded_queries == asked


def test_nan_logits_count_as_in_float32(classifier, pictures, predicted):
    def partly_nan(images):
        dark = tf.reduce_mean(images, [1, 2, 3])[:, None] < np.quantile(
            pictures.mean((1, 2, 3)), 0.2
        )
        return tf.where(dark, np.nan, classifier(images))

    attack = SEARCHES["gridadv"]
    expected, _ = run(attack, partly_nan, pictures, predicted)
    model = RoundedModel(partly_nan, bfloat16(partly_nan))
    found = attack_rounded(attack, model, pictures, predicted)
    np.testing.assert_array_equal(found.success, expected.success)


def test_no_images(classifier, pictures, predicted):
    model = RoundedModel(classifier, bfloat16(classifier))
    found = attack_rounded(RandAdv(), model, pictures[:0], predicted[:0])
    assert found.success.shape == (0,)
    assert found.images.shape == (0, 8, 8, 1)


@pytest.fixture(scope="module")
def trained():
    """A small network trained on digits, its bfloat16 twin, and digits."""
    images, labels = (part[:600] for part in Digits(size=16).open().load_test())
    images = np.float32(images / 255.0)
    builder = SmallCNN(width=4, hidden=16, dropout=0.0)
    keras.utils.set_random_seed(1)
    network = builder.build((16, 16, 1), 10)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(0.01), loss, jit_compile=False)
    network.fit(images, labels, batch_size=50, epochs=8, verbose=0)
    twin = builder.build((16, 16, 1), 10, "mixed_bfloat16")
    twin.set_weights(network.get_weights())
    return network, twin, images[:40]


@pytest.mark.parametrize("by_tensorflow", [False, True], ids=["twin", "graph"])
@pytest.mark.parametrize(
    "attack",
    [GridAdv(6, max_translation=0.5, grid=(3, 3, 5)), RandAdv(15, max_translation=1)],
    ids=["gridadv", "randadv"],
)
def test_results_of_a_trained_network_equal_those_of_float32(trained, attack, by_tensorflow):
    network, twin, images = trained
    alone = TargetModel(network)
    labels = np.int32(alone.logits(images).argmax(axis=1))
    expected = attack_rounded(attack, alone, images, labels)
    model = RoundedModel(network, lambda x, _: twin(x, training=False))
    if by_tensorflow:
        model = TargetModel(network)
        model.rounding = RoundingError()
    assert 0 < expected.success.sum() < 40
    for _ in range(2):
        assert_equal_results(attack_rounded(attack, model, images, labels), expected)


def test_log_odds_order_candidates_as_cross_entropy_does():
    logits = np.float32(np.random.default_rng(0).normal(size=(200, 4)))
    labels = np.zeros(200, np.int32)
    for criterion in (Criterion(labels), Criterion(labels, labels + 2)):
        loss, odds = (evaluate_loss(f, logits, criterion) for f in (cross_entropy, log_odds))
        np.testing.assert_array_equal(np.argsort(loss), np.argsort(odds))
    np.testing.assert_allclose(
        evaluate_loss(log_odds, np.float32([[1, 2, 2]]), Criterion(np.int32([0]))), 1 + np.log(2)
    )
