"""RST and UAT against their formulas, and their limits."""

import numpy as np
import pytest
import tensorflow as tf
from objective_helpers import (
    ANSWERS,
    BALL,
    SEED,
    assert_gradient_is_the_slope,
    cross_entropy,
    in_single,
    kl,
    numpy_mlp,
    total,
)

from keras_srt.neighborhoods import LInf
from keras_srt.objectives import (
    RST,
    UAT,
    Adversarial,
    Batch,
    Standard,
    Target,
    losses,
)
from keras_srt.objectives.self_training import Perturbations


def everything(batch):
    """Labeled and unlabeled images; labels and pseudo-labels."""
    images = np.concatenate([batch.images, batch.unlabeled])
    return images, np.concatenate([batch.labels, batch.pseudo_labels])


def test_rst_is_trades_over_labels_and_pseudo_labels(batch, mlp, weights):
    case = RST(robust_weight=6)
    prepared = case.prepare(in_single(mlp[0]), batch, BALL, SEED)
    images, labels = everything(batch)
    np.testing.assert_array_equal(prepared.labels, labels)
    before, after = (numpy_mlp(x, *weights) for x in (images, prepared.perturbed))
    expected = np.mean(cross_entropy(before, labels)) + 6 * np.mean(kl(before, after))
    np.testing.assert_allclose(total(case, mlp[0], prepared), expected, rtol=1e-6)


def test_uat_is_adversarial_training_with_fixed_and_online_targets(batch, mlp, weights):
    case, classifier = UAT(fixed_weight=0.7, online_weight=1.3), in_single(mlp[0])
    prepared = case.prepare(classifier, batch, BALL, SEED)
    after = {name: numpy_mlp(x, *weights) for name, x in prepared.images.items()}
    expected = (
        np.mean(cross_entropy(after["robust"], batch.labels.numpy()))
        + 0.7 * np.mean(cross_entropy(after["fixed"], ANSWERS))
        + 1.3 * np.mean(kl(numpy_mlp(batch.unlabeled, *weights), after["online"]))
    )
    np.testing.assert_allclose(total(case, classifier, prepared), expected, rtol=1e-5)


def test_each_term_of_uat_has_its_own_worst_images(batch, mlp):
    """The search of each term is independent of the other terms."""
    ball = LInf(epsilon=0.1, num_steps=3, random_start=False)
    classifier = in_single(mlp[0])
    found = UAT(online_weight=0).prepare(classifier, batch, ball, SEED).images
    for name, images, labels in (
        ("robust", batch.images, batch.labels),
        ("fixed", batch.unlabeled, batch.pseudo_labels),
    ):
        target = Target(labels)
        alone = ball.maximize(
            images,
            lambda x, target=target: losses.cross_entropy(target, classifier(x)),
            SEED,
        )
        np.testing.assert_array_equal(found[name], alone.images)
    both = UAT().prepare(classifier, batch, BALL, SEED).images
    assert np.any(both["fixed"] != both["online"])


@pytest.mark.parametrize(("fixed", "online"), [(0, 1), (1, 0), (0, 0)])
def test_a_term_of_uat_without_weight_is_left_out(fixed, online, batch, mlp):
    case = UAT(fixed_weight=fixed, online_weight=online)
    names = ("robust", *["fixed"] * fixed, *["online"] * online)
    classifier = in_single(mlp[0])
    prepared = case.prepare(classifier, batch, BALL, SEED)
    assert case.term_names == tuple(case.terms(classifier, prepared)) == names
    assert case.uses_teacher == bool(fixed)
    assert sum(case.passes(BALL, 4, 6)[1:]) == (3 + 1) * (4 + 6 * (fixed + online))


def test_the_gradient_of_uat_treats_the_online_target_as_constant(batch, mlp):
    generator = np.random.default_rng(1)
    images = {
        name: tf.constant(generator.random((count, 8, 8, 2)))
        for name, count in (("robust", 4), ("fixed", 6), ("online", 6))
    }
    targets = {
        "robust": Target(batch.labels),
        "fixed": Target(batch.pseudo_labels),
        "online": Target(batch.pseudo_labels, tf.constant(generator.normal(size=(6, 3)))),
    }
    assert_gradient_is_the_slope(UAT(online_weight=2), *mlp, Perturbations(images, targets))


def test_rst_at_scale_0_is_the_loss_on_labels_and_pseudo_labels(batch, mlp, weights):
    prepared = RST().prepare(in_single(mlp[0]), batch, BALL, SEED, 0.0)
    images, labels = everything(batch)
    expected = np.mean(cross_entropy(numpy_mlp(images, *weights), labels))
    np.testing.assert_allclose(total(RST(), mlp[0], prepared), expected, rtol=1e-6)


def test_rst_without_weight_is_standard_training_on_more_labels(batch, mlp):
    images, labels = everything(batch)
    more = Batch(tf.constant(images), tf.constant(labels))
    one = RST(robust_weight=0).prepare(in_single(mlp[0]), batch, BALL, SEED)
    np.testing.assert_allclose(
        total(RST(robust_weight=0), mlp[0], one), total(Standard(), mlp[0], more), rtol=1e-6
    )


def test_uat_with_true_labels_is_adversarial_training(batch, mlp):
    """UAT-FT with true labels as pseudo-labels."""
    case = UAT(fixed_weight=1, online_weight=0)
    ball = LInf(epsilon=0.1, num_steps=3, random_start=False)
    terms = case.terms(mlp[0], case.prepare(in_single(mlp[0]), batch, ball, SEED))
    for name, images, labels in (
        ("robust", batch.images, batch.labels),
        ("fixed", batch.unlabeled, batch.pseudo_labels),
    ):
        known = Batch(images, labels)
        alone = Adversarial().prepare(in_single(mlp[0]), known, ball, SEED)
        expected = Adversarial().terms(mlp[0], alone)["robust"].values
        np.testing.assert_allclose(terms[name].values, expected, rtol=1e-6)
