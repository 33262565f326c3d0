"""SRT and RT against equation (15), and their limits."""

import numpy as np
import pytest
import tensorflow as tf
from objective_helpers import (
    BALL,
    SEED,
    assert_gradient_is_the_slope,
    assert_step_passes,
    cross_entropy,
    in_single,
    make_mlp,
    mlp_weights,
    numpy_mlp,
    total,
)

from keras_srt.core.errors import InvalidSettings
from keras_srt.neighborhoods import LInf
from keras_srt.objectives import (
    RT,
    SRT,
    Standard,
    StepPasses,
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


def test_the_robust_risk_may_be_that_of_the_unlabeled_images_alone(batch):
    """Formulas (3) and (4): λ/|U| Σ_U instead of λ/|D'_L ∪ U| Σ."""
    weights = mlp_weights()
    classifier, _ = make_mlp(weights)
    case, ball = SRT(0.7, robust_images="unlabeled"), LInf(epsilon=0.1, num_steps=3)
    prepared = case.prepare(in_single(classifier), batch, ball, SEED)
    images, perturbed = batch.unlabeled.numpy(), prepared.perturbed.numpy()
    assert perturbed.shape == images.shape
    assert np.max(abs(perturbed - images)) == pytest.approx(0.1, abs=1e-6)
    answers = np.argmax(numpy_mlp(images, *weights), axis=1)
    clean = cross_entropy(numpy_mlp(batch.images, *weights), batch.labels.numpy())
    robust = cross_entropy(numpy_mlp(perturbed, *weights), answers)
    expected = np.mean(clean) + 0.7 * np.mean(robust)
    np.testing.assert_allclose(total(case, classifier, prepared), expected, atol=1e-6)


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


# Pseudo-labels of an average or a teacher.

PROBABILITIES = np.float32(
    [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0, 0, 1], [0.5, 0.4, 0.1], [0.1, 0, 0.9]]
)


@pytest.fixture
def taught(batch):
    """The batch with soft pseudo-labels."""
    return batch._replace(pseudo_labels=tf.constant(PROBABILITIES))


@pytest.mark.parametrize("source", ["average", "teacher"])
def test_the_target_is_the_label_or_the_given_pseudo_label(source, taught):
    weights = mlp_weights()
    classifier, _ = make_mlp(weights)
    hard = SRT(pseudo_labels=source).prepare(in_single(classifier), taught, BALL, SEED)
    expected = np.concatenate([taught.labels, PROBABILITIES.argmax(1)])
    np.testing.assert_array_equal(hard.target.labels, expected)

    soft = SRT(pseudo_labels=source, robust_loss="kl", label_smoothing=0.3)
    prepared = soft.prepare(in_single(classifier), taught, BALL, SEED)
    p = np.concatenate([0.7 * np.eye(3)[taught.labels] + 0.1, PROBABILITIES])
    q = numpy_mlp(prepared.perturbed.numpy(), *weights)
    q = np.exp(q) / np.exp(q).sum(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        divergence = np.nansum(p * np.log(p / q), axis=1)
    found = soft.terms(in_single(classifier), prepared)["robust"].values
    np.testing.assert_allclose(found, divergence, atol=1e-5)


def test_a_threshold_of_1_is_srt_with_its_own_soft_predictions(taught, make_classifier):
    classifier = make_classifier(batch_norm=False)
    own = SRT(robust_loss="kl").prepare(classifier, taught, BALL, SEED)
    case = SRT(robust_loss="kl", pseudo_labels="teacher", confidence_threshold=1)
    for found, expected in zip(
        tf.nest.flatten(case.prepare(classifier, taught, BALL, SEED)),
        tf.nest.flatten(own),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


def test_only_confident_pseudo_labels_replace_own_predictions(taught, make_classifier):
    classifier = make_classifier(batch_norm=False)
    case = SRT(robust_loss="kl", pseudo_labels="teacher", confidence_threshold=0.6)
    found = case.prepare(classifier, taught, BALL, SEED).target
    own = SRT().prepare(classifier, taught, BALL, SEED).target
    trusted = np.array([True] * 4 + [True, True, False, True, False, True])
    given = np.concatenate([taught.labels, PROBABILITIES.argmax(1)])
    np.testing.assert_array_equal(found.labels, np.where(trusted, given, own.labels))
    np.testing.assert_array_equal(found.logits[~trusted], own.logits[~trusted])
    np.testing.assert_allclose(
        tf.nn.softmax(found.logits)[4:][trusted[4:]], PROBABILITIES[trusted[4:]], atol=1e-6
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"confidence_threshold": 0.5, "robust_loss": "kl"},
        {"confidence_threshold": 0.5, "pseudo_labels": "teacher"},
    ],
)
def test_a_threshold_without_soft_pseudo_labels_is_refused(settings):
    with pytest.raises(InvalidSettings, match=r"confidence_threshold: got 0\.5 .*allowed: 0"):
        SRT(**settings).check(BALL)


@pytest.mark.parametrize(
    ("settings", "passes"),
    [
        ({"pseudo_labels": "teacher"}, StepPasses(0, 30, 14)),
        (
            {"pseudo_labels": "teacher", "robust_loss": "kl", "confidence_threshold": 0.5},
            StepPasses(10, 30, 14),
        ),
        ({"robust_images": "unlabeled"}, StepPasses(6, 18, 10)),
        ({"robust_images": "unlabeled", "pseudo_labels": "teacher"}, StepPasses(0, 18, 10)),
    ],
)
def test_passes_with_other_targets_and_images(settings, passes, taught, make_classifier):
    assert_step_passes(SRT(**settings), BALL, passes, taught, make_classifier())


def test_label_smoothing_needs_the_cross_entropy():
    with pytest.raises(InvalidSettings, match=r"label_smoothing: got 0\.1 .*cross_entropy"):
        SRT(clean_loss="margin", label_smoothing=0.1).check(BALL)
