"""Laws of all minimal-norm attacks, and distances where they are known."""

import numpy as np
import pytest
import tensorflow as tf
from linear_models import affine, constant, pairwise_distances, run

from keras_srt.attacks import DDN, JSMA, CarliniWagner, Pointwise
from keras_srt.evaluation.runner import evaluate_robustness

CW = {
    "epsilon": 1.0,
    "iterations": 100,
    "searches": 6,
    "learning_rate": 0.02,
    "initial_const": 0.1,
}


ATTACKS = {
    "cw": CarliniWagner(**CW),
    "ddn": DDN(epsilon=1.0),
    "jsma": JSMA(epsilon=16),
    "pointwise": Pointwise(epsilon=16, restarts=1, noise_draws=10),
}


# For laws that hold after any number of steps.
QUICK = {
    "cw": CarliniWagner(**{**CW, "iterations": 20, "searches": 3}),
    "ddn": DDN(epsilon=1.0, num_steps=20),
    "jsma": JSMA(epsilon=4),
    "pointwise": Pointwise(epsilon=16, restarts=1, noise_draws=3),
}


every_attack = pytest.mark.parametrize("attack", QUICK.values(), ids=QUICK)


in_l2 = pytest.mark.parametrize("attack", [ATTACKS["cw"], ATTACKS["ddn"]], ids=["cw", "ddn"])


@every_attack
def test_an_adversarial_image_costs_one_query(attack, gray):
    found, model = run(attack, constant(3), gray, np.ones(20))
    assert found.success.all()
    np.testing.assert_array_equal(found.nearest, gray)
    np.testing.assert_array_equal(found.images, gray)
    assert model.queries == 20


@every_attack
@pytest.mark.parametrize("targets", [None, [2] * 20], ids=["untargeted", "targeted"])
def test_a_constant_model_survives(attack, targets, gray):
    found, _ = run(attack, constant(3), gray, np.zeros(20), targets)
    assert not found.success.any()
    np.testing.assert_array_equal(found.nearest, gray)
    np.testing.assert_array_equal(found.images, gray)


@every_attack
def test_failures_have_no_distance_in_the_report(attack, gray):
    outcome = evaluate_robustness(constant(3), gray, np.zeros(20, int), [attack])
    assert np.isinf(outcome.outcomes[attack.name].distances).all()
    (told,) = outcome.report()["attacks"]
    assert told["accuracy"] == 1.0
    assert told["distance"]["median"] is None


@every_attack
def test_nan_logits_are_never_correct(attack, gray):
    outcome = evaluate_robustness(
        lambda x: constant(3)(x) * np.nan, gray, np.zeros(20, int), [attack]
    )
    assert not outcome.correct.any()
    np.testing.assert_array_equal(outcome.outcomes[attack.name].images, gray)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_region_of_nan_logits_is_harmless(attack, gray):
    """Above a mean of 0.55 the logits are NaN, which is never correct."""

    def fragile(images):
        mean = tf.reduce_mean(images, axis=[1, 2, 3])
        return constant(3)(images) + tf.where(mean > 0.55, np.nan, 0.1 * mean)[:, None] * [
            -1,
            1.0,
            0,
        ]

    outcome = evaluate_robustness(fragile, gray, np.zeros(20, int), [attack])
    verdict = outcome.outcomes[attack.name]
    assert np.isfinite(verdict.images).all()
    if attack.name != "pointwise":
        assert set(np.unique(verdict.classes)) <= {-1, 0}
    assert (verdict.classes == -1).any()


@every_attack
def test_success_requires_a_distance_within_the_radius(attack):
    weights = np.random.default_rng(2).normal(size=(16, 3))
    classifier = affine(weights, [3.0, 0, 0])
    images = np.float32(np.random.default_rng(1).uniform(0.1, 0.9, (20, 4, 4, 1)))
    labels = np.argmax(classifier(images), axis=1)
    settings = {"cw": CW | {"iterations": 50}, "ddn": {"num_steps": 30}}.get(attack.name, {})
    all_of_them, _ = run(type(attack)(**settings | {"epsilon": 99}), classifier, images, labels)
    assert all_of_them.success.all()
    lengths = attack.ball.distance(np.float64(all_of_them.nearest) - images)
    radius = float(np.quantile(lengths, 0.3, method="lower"))
    found, _ = run(type(attack)(**settings | {"epsilon": radius}), classifier, images, labels)
    np.testing.assert_array_equal(found.nearest, all_of_them.nearest)
    np.testing.assert_array_equal(found.success, lengths <= radius + 1e-6)
    assert 0 < found.success.sum() < 20
    np.testing.assert_array_equal(found.images[found.success], found.nearest[found.success])
    np.testing.assert_array_equal(found.images[~found.success], images[~found.success])


@pytest.mark.parametrize("name", ["cw", "ddn", "jsma"])
def test_results_do_not_depend_on_the_batch(name, gray):
    weights = np.random.default_rng(2).normal(size=(16, 3))
    classifier = affine(weights, [0, 0, 0])
    labels = np.argmax(classifier(gray), axis=1)
    whole, _ = run(QUICK[name], classifier, gray, labels)
    some = slice(7, 14)
    part, _ = run(QUICK[name], classifier, gray[some], labels[some])
    np.testing.assert_allclose(part.nearest, whole.nearest[some], atol=2e-3)


@in_l2
def test_the_distance_to_a_hyperplane_is_found(attack, gray):
    weights, bias = np.random.default_rng(3).normal(size=(16, 2)), np.array([2.0, 0])
    labels = np.argmax(affine(weights, bias)(gray), axis=1)
    expected = pairwise_distances(weights, bias, gray, labels).min(axis=1)
    found, _ = run(attack, affine(weights, bias), gray, labels)
    length = np.sqrt(np.square(np.float64(found.nearest) - gray).sum(axis=(1, 2, 3)))
    assert found.success.all()
    assert np.all(length >= expected - 1e-6)
    assert np.max(length / expected) < 1.03
    assert np.median(length / expected) < 1.02


@in_l2
def test_distances_to_several_hyperplanes(attack, gray):
    weights, bias = np.random.default_rng(3).normal(size=(16, 4)), np.array([2.0, 0, 0, 0])
    labels = np.argmax(affine(weights, bias)(gray), axis=1)
    expected = pairwise_distances(weights, bias, gray, labels).min(axis=1)
    found, _ = run(attack, affine(weights, bias), gray, labels)
    length = np.sqrt(np.square(np.float64(found.nearest) - gray).sum(axis=(1, 2, 3)))
    assert found.success.all()
    assert np.all(length >= expected - 1e-6)
    # C&W follows the class of the largest logit, which needn't be the nearest one.
    assert np.median(length / expected) < 1.03


@in_l2
def test_a_target_behind_a_hyperplane_is_reached_at_its_distance(attack, gray):
    weights = np.random.default_rng(4).normal(size=(16, 3))
    bias = np.array([1.0, -30, 0])
    expected = pairwise_distances(weights, bias, gray, np.zeros(20, int))[:, 2]
    found, _ = run(attack, affine(weights, bias), gray, np.zeros(20), [2] * 20)
    length = np.sqrt(np.square(np.float64(found.nearest) - gray).sum(axis=(1, 2, 3)))
    reached = np.argmax(affine(weights, bias)(found.nearest), axis=1) == 2
    assert reached.all()
    assert np.all(length >= expected - 1e-6)
    assert np.mean(length / expected) < 1.03


@in_l2
def test_a_target_further_away_than_another_class(attack, gray):
    """The nearest other class is 1; only class 2 counts."""
    weights, bias = np.random.default_rng(4).normal(size=(16, 3)), np.array([0.6, 0.5, -0.5])
    labels = np.argmax(affine(weights, bias)(gray), axis=1)
    of_others = labels != 2
    found, _ = run(attack, affine(weights, bias), gray, labels, [2] * 20)
    other, _ = run(attack, affine(weights, bias), gray, labels)
    assert np.all(np.argmax(affine(weights, bias)(found.nearest), axis=1) == 2)
    near, far = (
        np.sqrt(np.square(np.float64(one.nearest) - gray).sum(axis=(1, 2, 3)))[of_others]
        for one in (other, found)
    )
    assert np.all(far > 0.97 * near)
    assert np.median(far / near) > 1.1


@in_l2
def test_distances_are_measured_outside_the_attack(attack, gray):
    weights, bias = np.random.default_rng(3).normal(size=(16, 2)), np.array([2.0, 0])
    labels = np.argmax(affine(weights, bias)(gray), axis=1)
    expected = pairwise_distances(weights, bias, gray, labels).min(axis=1)
    outcome = evaluate_robustness(affine(weights, bias), gray, labels, [attack])
    np.testing.assert_allclose(outcome.outcomes[attack.name].distances, expected, rtol=0.03)
