"""TRADES, RST, UAT, worst-of-k and KLR against their formulas in NumPy, and their limits."""

import numpy as np
import pytest
import tensorflow as tf
from objective_helpers import (
    assert_gradient_is_the_slope,
    cross_entropy,
    in_single,
    kl,
    make_mlp,
    mlp_weights,
    numpy_mlp,
    total,
)

from keras_srt.core.errors import InvalidSettings
from keras_srt.neighborhoods import L0, L2, Color, Composite, LInf, Noise, Spatial
from keras_srt.objectives import (
    KLR,
    RST,
    SRT,
    UAT,
    Adversarial,
    Batch,
    Standard,
    Target,
    Trades,
    WorstOfK,
    losses,
)
from keras_srt.objectives.self_training import Perturbations
from keras_srt.objectives.trades import Pairs
from keras_srt.training.model import RobustModel

BALL = LInf(epsilon=0.1, num_steps=3)
TURN = Spatial(max_rotation=20, max_translation=1, num_samples=4)
SEED = (1, 2)
ANSWERS = np.int32([2, 0, 1, 1, 0, 2])


@pytest.fixture
def batch(images, labels, unlabeled):
    """Four labeled images, and six that a teacher answered."""
    parts = images, labels, unlabeled, ANSWERS
    return Batch(*(tf.constant(part) for part in parts))


@pytest.fixture
def weights():
    """Of the small smooth network, float64."""
    return mlp_weights()


@pytest.fixture
def mlp(weights):
    """The network in TensorFlow, and its variables."""
    return make_mlp(weights)


def everything(batch):
    """Labeled and unlabeled images; labels and pseudo-labels."""
    images = np.concatenate([batch.images, batch.unlabeled])
    return images, np.concatenate([batch.labels, batch.pseudo_labels])


# Values.


@pytest.mark.parametrize(
    ("objective", "neighborhood"),
    [(Trades(robust_weight=1.7), BALL), (KLR(robust_weight=1.7, num_samples=3), TURN)],
)
def test_trades_and_klr_are_the_clean_loss_and_the_kl(objective, neighborhood, batch, mlp, weights):
    prepared = objective.prepare(in_single(mlp[0]), batch, neighborhood, SEED)
    before, after = (numpy_mlp(x, *weights) for x in (batch.images, prepared.perturbed))
    divergence = kl(before, after)
    assert np.mean(divergence) > 1e-4
    expected = np.mean(cross_entropy(before, batch.labels.numpy())) + 1.7 * np.mean(divergence)
    np.testing.assert_allclose(total(objective, mlp[0], prepared), expected, rtol=1e-6)


def test_rst_is_trades_over_labels_and_pseudo_labels_alike(batch, mlp, weights):
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
    """By its own loss, as if the others weren't there."""
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


# Gradients.


def test_the_gradient_of_trades_flows_through_both_answers(batch, mlp, weights):
    """By finite differences of the whole: they don't know what is detached."""
    generator = np.random.default_rng(1)
    prepared = Pairs(
        tf.cast(batch.images, tf.float64), batch.labels, tf.constant(generator.random((4, 8, 8, 2)))
    )
    assert_gradient_is_the_slope(Trades(robust_weight=3), *mlp, prepared)


def test_the_gradient_of_uat_leaves_the_online_target_alone(batch, mlp):
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


def test_a_clean_branch_that_is_detached_has_another_gradient(batch, mlp):
    """What sets TRADES apart from RT with KL, at the same images and the same value."""
    classifier, variables = mlp
    prepared = Trades().prepare(in_single(classifier), batch, BALL, SEED)
    with tf.GradientTape(persistent=True) as tape:
        value = Trades().terms(classifier, prepared)["robust"].values
        own = Target(batch.labels, tf.stop_gradient(classifier(batch.images)))
        detached = losses.kl(own, classifier(prepared.perturbed))
    np.testing.assert_allclose(value, detached, rtol=1e-9)
    one, other = (tape.gradient(part, variables[2]) for part in (value, detached))
    assert np.max(abs(one - other)) > 1e-3 * np.max(abs(other))


# Limits.


@pytest.mark.parametrize(
    ("objective", "same"),
    [
        (Adversarial(), Standard()),
        (Trades(robust_weight=6), Standard()),
        (WorstOfK(), Standard()),
        (KLR(), Standard()),
        (UAT(fixed_weight=0), Standard()),
        (SRT(robust_weight=0), Standard()),
    ],
)
def test_without_tampering_only_the_clean_loss_is_left(objective, same, batch, mlp):
    """At scale 0 in the ball or the rotations, value and gradient alike."""
    classifier, variables = in_single(mlp[0]), mlp[1]
    neighborhood = TURN if objective.name in ("worst_of_k", "klr") else BALL
    values, gradients = [], []
    for case in (objective, same):
        prepared = case.prepare(classifier, batch, neighborhood, SEED, 0.0)
        with tf.GradientTape() as tape:
            values.append(total(case, classifier, prepared))
        gradients.append(tape.gradient(values[-1], variables))
    np.testing.assert_allclose(*values, rtol=1e-5)
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_rst_without_tampering_is_the_loss_on_labels_and_pseudo_labels(batch, mlp, weights):
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


def test_fixed_targets_that_are_the_truth_make_uat_adversarial_training(batch, mlp):
    """UAT-FT on images and labels as on more labeled ones, mean by mean."""
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


@pytest.mark.parametrize("case", [Trades(), RST(), UAT(), WorstOfK(), KLR()], ids=lambda c: c.name)
def test_what_is_prepared_is_a_function_of_the_seed(case, batch, mlp):
    neighborhood = TURN if case.name in ("worst_of_k", "klr") else BALL
    first, again, other = (
        tf.nest.flatten(case.prepare(in_single(mlp[0]), batch, neighborhood, seed))
        for seed in (SEED, SEED, (1, 3))
    )
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, same)
    assert any(np.any(one != another) for one, another in zip(first, other, strict=True))


# Draws.


def test_worst_of_k_is_adversarial_training_with_k_draws(batch, mlp):
    classifier = in_single(mlp[0])
    grid = Spatial(max_rotation=20, max_translation=1, search="grid")
    drawn = Spatial(max_rotation=20, max_translation=1, num_samples=7)
    found = WorstOfK(num_samples=7).prepare(classifier, batch, grid, SEED)
    expected = Adversarial().prepare(classifier, batch, drawn, SEED)
    np.testing.assert_array_equal(found.images, expected.images)
    fewer = WorstOfK(num_samples=2).prepare(classifier, batch, grid, SEED)
    assert np.any(fewer.images != found.images)


def test_klr_takes_the_draw_of_the_highest_kl(batch, mlp, weights):
    prepared = KLR(num_samples=5).prepare(in_single(mlp[0]), batch, TURN, SEED)
    own = numpy_mlp(batch.images, *weights)
    highest = kl(own, numpy_mlp(prepared.perturbed, *weights))
    fewer = KLR(num_samples=4).prepare(in_single(mlp[0]), batch, TURN, SEED)
    assert np.all(highest >= kl(own, numpy_mlp(fewer.perturbed, *weights)) - 1e-6)
    assert np.all(highest > 0)


@pytest.mark.parametrize(("objective", "instead"), [(WorstOfK(), "adversarial"), (KLR(), "trades")])
@pytest.mark.parametrize(
    ("neighborhood", "name"),
    [
        (BALL, "linf"),
        (L2(epsilon=1), "l2"),
        (L0(epsilon=3), "l0"),
        (Composite(stages=(TURN, L2(epsilon=1))), "l2"),
    ],
)
def test_pixel_balls_are_not_searched_by_draws(objective, instead, neighborhood, name, mlp):
    with pytest.raises(InvalidSettings) as caught:
        objective.check(neighborhood)
    (problem,) = caught.value.problems
    assert problem.startswith(f"neighborhood: got '{name}' with the objective '{objective.name}'")
    assert f"or the objective '{instead}'" in problem
    objective.check(Composite(stages=(TURN, Noise(epsilon=0.1), Color(random_start=False))))


# KL has no slope where it starts.

STILL = LInf(epsilon=0.1, random_start=False)


@pytest.mark.parametrize(
    "objective", [Trades(), RST(), UAT(), UAT(fixed_weight=0), SRT(robust_loss="kl")]
)
@pytest.mark.parametrize(
    "neighborhood", [STILL, Composite(stages=(STILL, TURN)), Color(random_start=False)]
)
def test_an_ascent_on_kl_needs_a_random_start(objective, neighborhood, make_classifier):
    for use in (objective.check, lambda n: RobustModel(make_classifier(), n, objective)):
        with pytest.raises(InvalidSettings, match=r"^neighborhood\.random_start: got false"):
            use(neighborhood)
    objective.check(Composite(stages=(TURN, STILL)))
    for place in (TURN, LInf(epsilon=0.1, random_start=0.001), Color(search="random")):
        objective.check(place)


def test_without_kl_any_start_will_do():
    for objective in (Adversarial(), UAT(online_weight=0), SRT(), Standard()):
        objective.check(STILL)
