"""Models under attack: padded queries, and models without gradients."""

import numpy as np
import pytest
import tensorflow as tf
from mean_brightness import check_attacks, mean_brightness

from keras_srt.attacks import Criterion, TargetModel
from keras_srt.attacks.attack_losses import cross_entropy, dlr, logit_difference, margin


@pytest.mark.parametrize("count", [0, 1, 3, 17, 24])
def test_padding_changes_neither_predictions_nor_the_count(count, classifier, pictures, predicted):
    model = TargetModel(classifier, batch_size=20)
    criterion = Criterion(predicted[:count])
    answers, gradient = model.gradient(pictures[:count], criterion)
    np.testing.assert_array_equal(answers.classes, predicted[:count])
    assert model.queries == count
    with tf.GradientTape() as tape:
        images = tf.Variable(pictures[:count])
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(criterion.labels, classifier(images))
    np.testing.assert_allclose(answers.loss, loss, rtol=1e-5)
    np.testing.assert_allclose(gradient, tape.gradient(loss, images), rtol=1e-4, atol=1e-6)


def test_queries_come_in_few_sizes(pictures):
    sizes = set()

    def logits(images):
        tf.numpy_function(lambda n: sizes.add(int(n)), [tf.shape(images)[0]], [])
        return tf.reduce_sum(images, axis=[1, 2])

    model = TargetModel(logits, batch_size=24)
    for count in range(1, 25):
        model.logits(pictures[:count])
    assert sizes == {1, 2, 4, 8, 16, 24}


# Gradients at any precision and scale.


@pytest.mark.parametrize("loss", [cross_entropy, dlr, margin, logit_difference])
def test_scaling_changes_no_digit_of_a_float32_gradient(loss, classifier, pictures, predicted):
    criterion = Criterion(predicted, np.int32((predicted + 1) % 3))
    with tf.GradientTape() as tape:
        images = tf.Variable(pictures)
        values = loss(classifier(images), *criterion.columns)
    _, gradient = TargetModel(classifier).gradient(pictures, criterion, loss)
    plain = tf.function(lambda: tape.gradient(values, images))()
    np.testing.assert_allclose(gradient, plain, rtol=1e-5, atol=1e-8)
    model, weights = TargetModel(classifier), np.float32([[1, -2, 3]] * 24)
    pulled = [model.pullback(pictures, factor * weights)[1] for factor in (1.0, 2.0**40)]
    np.testing.assert_array_equal(2.0**40 * pulled[0], pulled[1])


@pytest.mark.parametrize("targets", [None, [1, 2]])
def test_the_cross_entropy_is_exact_where_float32_resolves_it(targets):
    logits = tf.constant([[9.0, 1.0, 0.0], [-2.0, 3.0, 1.0]])
    labels, targets = tf.constant([0, 0]), None if targets is None else tf.constant(targets)
    own, sign = (labels, 1.0) if targets is None else (targets, -1.0)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        expected = sign * tf.nn.sparse_softmax_cross_entropy_with_logits(own, logits)
        loss = cross_entropy(logits, labels, targets)
    np.testing.assert_array_equal(loss, expected)
    np.testing.assert_array_equal(tape.gradient(loss, logits), tape.gradient(expected, logits))


@pytest.mark.parametrize("scale", [12.0, 30.0, 1e3, 1e6])
def test_the_gradient_of_the_cross_entropy_never_vanishes(scale):
    """Its direction is that of float64 at logits where float32's is 0 or rounded."""
    logits = scale * tf.constant([[2.0, 1.0, 0.999]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = cross_entropy(logits, tf.constant([0]), None)
    gradient = tape.gradient(loss, logits).numpy()[0]
    other = 1 / (1 + np.exp(-0.001 * scale)) if scale < 1e5 else 1.0
    assert gradient[0] < 0
    np.testing.assert_allclose(gradient / -gradient[0], [-1, other, 1 - other], atol=1e-3)


def test_the_cross_entropy_orders_perturbations_at_any_scale():
    margins = np.float32([-1e6, -1e3, -30, -12, -11.1, -11.05, -5, 0, 5, 1e3])
    logits = tf.stack([tf.zeros(10), tf.constant(margins)], axis=1)
    assert (np.diff(cross_entropy(logits, tf.zeros(10, tf.int32), None)) > 0).all()


@pytest.mark.parametrize(
    ("policy", "scale", "activation"),
    [
        ("float32", 16.0, "sigmoid"),
        ("mixed_bfloat16", 16.0, None),
        ("mixed_float16", 1.0, None),
        ("mixed_float16", 16.0, "softmax"),
    ],
)
def test_attacks_find_the_same_at_any_precision(policy, scale, activation):
    check_attacks(policy, scale, activation)


def test_gradients_that_overflow_in_float16_are_found_at_a_smaller_scale():
    model = TargetModel(mean_brightness("mixed_float16", 300.0))
    images = np.full((2, 8, 8, 1), 0.4531, np.float32)
    _, gradient = model.gradient(images, Criterion(np.zeros(2, np.int32)), margin)
    np.testing.assert_allclose(gradient, -1800, rtol=1e-3)
    assert model.queries > 2
