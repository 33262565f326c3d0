"""SRT and RT against equation (15), and their limits."""

import numpy as np
import pytest
import tensorflow as tf
from objective_helpers import (
    BALL,
    SEED,
    assert_gradient_is_the_slope,
    cross_entropy,
    in_single,
    make_mlp,
    mlp_weights,
    numpy_mlp,
    total,
)

from keras_srt.neighborhoods import LInf
from keras_srt.objectives import (
    RT,
    SRT,
    Standard,
    Target,
    losses,
)
from keras_srt.objectives.srt import Prepared


@pytest.mark.parametrize("loss", ["cross_entropy", "kl", "margin", "keras:CategoricalHinge"])
def test_srt_takes_any_robust_loss(loss, batch, make_classifier):
    case, classifier = SRT(robust_loss=loss), make_classifier(batch_norm=False)
    prepared = case.prepare(classifier, batch, BALL, SEED)
    expected = losses.get(loss)(prepared.target, classifier(prepared.perturbed))
    found = case.terms(classifier, prepared)["robust"].values
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@pytest.mark.parametrize(("objective", "count"), [(SRT, 10), (RT, 4)])
def test_the_loss_is_equation_15_with_separate_means(objective, count, epsilon, batch):
    weights = mlp_weights()
    classifier, _ = make_mlp(weights)
    case = objective(robust_weight=0.7)
    ball = LInf(epsilon=epsilon, num_steps=3)
    prepared = case.prepare(in_single(classifier), batch, ball, SEED)
    images = np.concatenate([batch.images, batch.unlabeled])[:count]
    perturbed = prepared.perturbed.numpy()
    assert perturbed.shape == images.shape
    assert np.max(abs(perturbed - images)) == pytest.approx(epsilon, abs=1e-6)

    answers = np.argmax(numpy_mlp(images, *weights), axis=1)
    clean = cross_entropy(numpy_mlp(batch.images, *weights), batch.labels.numpy())
    robust = cross_entropy(numpy_mlp(perturbed, *weights), answers)
    expected = np.sum(clean) / 4 + 0.7 / count * np.sum(robust)
    np.testing.assert_allclose(total(case, classifier, prepared), expected, atol=1e-6)
    np.testing.assert_array_equal(prepared.target.labels, answers)


def test_rt_is_srt_without_unlabeled_images(batch, make_classifier):
    classifier = make_classifier(batch_norm=False)

    def value(objective, its_batch):
        return total(objective, classifier, objective.prepare(classifier, its_batch, BALL, SEED))

    empty = value(SRT(robust_weight=2), batch._replace(unlabeled=None))
    assert value(RT(robust_weight=2), batch) == empty
    assert value(SRT(robust_weight=2), batch) != empty
    none = batch._replace(unlabeled=batch.unlabeled[:0])
    np.testing.assert_allclose(value(SRT(robust_weight=2), none), empty, rtol=1e-6)


def test_the_robust_term_does_not_depend_on_labels(batch, make_classifier):
    case, classifier = SRT(), make_classifier(batch_norm=False)

    def robust(labels):
        prepared = case.prepare(classifier, batch._replace(labels=labels), BALL, SEED)
        return case.terms(classifier, prepared)["robust"].values

    np.testing.assert_array_equal(robust(batch.labels), robust((batch.labels + 1) % 3))


def test_pseudo_labels_are_predicted_in_inference_mode(batch, make_classifier):
    classifier = make_classifier()
    for _ in range(3):
        classifier(1.0 - batch.images, training=True)
    prepared = SRT().prepare(classifier, batch, BALL, SEED)
    everything = tf.concat([batch.images, batch.unlabeled], axis=0)
    logits = classifier(everything, training=False)
    np.testing.assert_allclose(prepared.target.logits, logits, atol=1e-6)
    np.testing.assert_array_equal(prepared.target.labels, np.argmax(logits, axis=1))
    found = BALL.maximize(
        everything,
        lambda x: losses.cross_entropy(prepared.target, classifier(x, training=False)),
        SEED,
    )
    np.testing.assert_allclose(prepared.perturbed, found.images, atol=1e-6)


def test_lambda_zero_leaves_the_standard_gradient(batch, make_classifier):
    classifier = make_classifier(batch_norm=False)
    gradients = []
    for case in (SRT(robust_weight=0), Standard()):
        prepared = case.prepare(classifier, batch, BALL, SEED)
        with tf.GradientTape() as tape:
            value = total(case, classifier, prepared)
        gradients.append(tape.gradient(value, classifier.trainable_variables))
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_gradient_of_srt_agrees_with_finite_differences(batch):
    classifier, variables = make_mlp(mlp_weights())
    generator = np.random.default_rng(0)
    prepared = Prepared(
        tf.cast(batch.images, tf.float64),
        batch.labels,
        tf.constant(generator.random((10, 8, 8, 2))),
        Target(tf.constant(generator.integers(0, 3, 10), tf.int32)),
    )
    assert_gradient_is_the_slope(SRT(robust_weight=0.7), classifier, variables, prepared)
