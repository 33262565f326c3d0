"""Per-example losses against NumPy, and the settings that name a loss."""

import numpy as np
import pytest
import tensorflow as tf
from objective_helpers import (
    cross_entropy,
    kl,
    softmax,
)

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import keras
from keras_srt.objectives import (
    KLR,
    RST,
    RT,
    SRT,
    Adversarial,
    Standard,
    Target,
    Trades,
    WorstOfK,
    losses,
)

LOGITS = np.float32([[2, -1, 0.5], [0, 3, 3.5], [-2, 1, 1], [50, -40, 0]])
OWN = np.float32([[1, 0, 0], [0.3, -0.2, 2], [0, 1, -1], [0.1, 0.2, 0.3]])
ANSWERS = np.int32([0, 1, 2, 0])
ONE_HOT = np.eye(3)[ANSWERS]


def test_cross_entropy():
    found = losses.cross_entropy(Target(ANSWERS), tf.constant(LOGITS))
    np.testing.assert_allclose(found, cross_entropy(LOGITS, ANSWERS), atol=1e-6)


def test_kl():
    found = losses.kl(Target(ANSWERS, tf.constant(OWN)), tf.constant(LOGITS))
    np.testing.assert_allclose(found, kl(OWN, LOGITS), rtol=1e-6, atol=1e-6)
    same = losses.kl(Target(ANSWERS, tf.constant(OWN)), tf.constant(OWN))
    np.testing.assert_allclose(same, 0, atol=1e-7)


def test_the_margin_is_positive_only_for_misclassified_images():
    found = losses.margin(Target(ANSWERS), tf.constant(LOGITS))
    np.testing.assert_allclose(found, [-1.5, 0.5, 0, -50], atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("keras:MeanSquaredError", np.mean((softmax(LOGITS) - ONE_HOT) ** 2, axis=1)),
        (keras.losses.MeanAbsoluteError(), np.mean(abs(softmax(LOGITS) - ONE_HOT), axis=1)),
        (
            "keras:CategoricalHinge",
            np.maximum(
                0,
                1
                + np.max(softmax(LOGITS) * (1 - ONE_HOT), axis=1)
                - np.sum(softmax(LOGITS) * ONE_HOT, axis=1),
            ),
        ),
        (
            keras.losses.CategoricalCrossentropy(label_smoothing=0.3),
            -np.sum((0.7 * ONE_HOT + 0.1) * np.log(np.maximum(softmax(LOGITS), 1e-7)), axis=1),
        ),
        (
            "keras:SparseCategoricalCrossentropy",
            -np.log(np.maximum(1e-7, softmax(LOGITS)[np.arange(4), ANSWERS])),
        ),
    ],
)
def test_keras_losses_get_probabilities_and_give_one_loss_for_each_image(loss, expected):
    found = losses.get(loss)(Target(ANSWERS), tf.constant(LOGITS))
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_a_function_is_used_as_is():
    def loss(target, logits):
        return logits[:, 0]

    assert losses.get(loss) is loss
    assert SRT(robust_loss=loss).robust_loss is loss


@pytest.mark.parametrize("name", ["keras:NoSuchLoss", "keras:Reduction", "keras:"])
def test_an_unknown_keras_loss_is_refused(name):
    with pytest.raises(InvalidSettings, match=f"got '{name}'.*class name of a Keras loss"):
        losses.get(name)


def test_an_unknown_loss_is_refused_with_a_suggestion():
    with pytest.raises(InvalidSettings) as caught:
        SRT(robust_loss="cross_entropi")
    assert caught.value.problems == (
        "robust_loss: got 'cross_entropi'; allowed: cross_entropy, kl, margin, keras:NAME; "
        "did you mean 'cross_entropy'?",
    )


@pytest.mark.parametrize(
    ("objective", "field"),
    [
        (SRT, "clean_loss"),
        (RT, "clean_loss"),
        (Standard, "clean_loss"),
        (Adversarial, "robust_loss"),
        (Trades, "clean_loss"),
        (RST, "clean_loss"),
        (WorstOfK, "robust_loss"),
        (KLR, "clean_loss"),
    ],
)
def test_kl_to_true_labels_is_refused(objective, field):
    with pytest.raises(InvalidSettings) as caught:
        objective(**{field: "kl"})
    (problem,) = caught.value.problems
    assert problem.startswith(f"{field}: got 'kl'; allowed: cross_entropy, margin, keras:NAME")


def test_smoothed_labels_are_a_mixture_with_the_uniform_distribution():
    logits = np.float32([[2, 0, -1], [0.5, 0.5, 3]])
    p = 0.7 * np.eye(3)[[0, 1]] + 0.1
    expected = -(p * tf.nn.log_softmax(logits)).numpy().sum(1)
    found = losses.get("cross_entropy", label_smoothing=0.3)(Target(tf.constant([0, 1])), logits)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_soft_target_with_a_probability_of_0_has_a_finite_divergence():
    target = losses.soft_target(tf.constant([[1.0, 0.0, 0.0], [0.25, 0.75, 0.0]]))
    np.testing.assert_array_equal(target.labels, [0, 1])
    logits = tf.math.log(tf.constant([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]]))
    expected = [np.log(2), 0.75 * np.log(1.5)]
    np.testing.assert_allclose(losses.kl(target, logits), expected, atol=1e-5)
