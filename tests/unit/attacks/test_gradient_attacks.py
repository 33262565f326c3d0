"""MI-FGSM against a NumPy computation, and what targeted attacks reach where it is known."""

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.attacks import (
    FGSM,
    MIFGSM,
    PGD,
    Criterion,
    GridAdv,
    QueryModel,
    RandAdv,
    TargetModel,
)
from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.evaluation.runner import evaluate_robustness

SEED = tf.constant([3, 5])


@pytest.fixture
def gray():
    """12 images of 4×4 pixels that stay far from 0 and 1 under small perturbations."""
    return np.float32(np.random.default_rng(1).uniform(0.4, 0.6, (12, 4, 4, 1)))


def linear(weights, bias):
    """f(x) = (x - 1/2)·W + b, for W of shape [16, classes]."""
    weights, bias = tf.constant(weights, tf.float32), tf.constant(bias, tf.float32)
    return lambda images: (tf.reshape(images, [-1, 16]) - 0.5) @ weights + bias


def run(attack, classifier, images, labels, targets=None):
    model = TargetModel(classifier)
    criterion = Criterion(np.int32(labels), None if targets is None else np.int32(targets))
    return attack.run(model, images, criterion, SEED), model


# MI-FGSM.


def momentum_in_numpy(images, weights, bias, goal_class, sign, settings):
    """Dong et al. 2018, algorithm 1, in float64 for a linear model; sign +1 leaves the class."""
    epsilon, steps, decay, norm = settings
    start = np.float64(images).reshape(len(images), -1)
    now, momentum = start.copy(), np.zeros_like(start)
    for _ in range(steps):
        logits = (now - 0.5) @ weights + bias
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        odds = odds / odds.sum(axis=1, keepdims=True) - np.eye(len(bias))[goal_class]
        gradient = sign * odds @ weights.T
        momentum = decay * momentum + gradient / np.abs(gradient).sum(axis=1, keepdims=True)
        length = np.sqrt(np.square(momentum).sum(axis=1, keepdims=True))
        now += epsilon / steps * (np.sign(momentum) if norm == "linf" else momentum / length)
        moved = now - start
        if norm == "linf":
            moved = np.clip(moved, -epsilon, epsilon)
        else:
            moved *= np.minimum(1, epsilon / np.sqrt(np.square(moved).sum(axis=1, keepdims=True)))
        now = np.clip(start + moved, 0, 1)
    return now.reshape(images.shape)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("targeted", [False, True])
def test_mi_fgsm_is_the_algorithm_of_the_paper(gray, norm, steps, targeted):
    generator = np.random.default_rng(2)
    # Class 0 leads by so much that nothing fools, and 1 and 2 take turns behind it.
    weights, bias = 3 * generator.normal(size=(16, 3)), np.array([10.0, 0, 0])
    weights[:, 0] = 0
    settings = (0.08, steps, 0.9, norm)
    attack = MIFGSM(epsilon=0.08, num_steps=steps, decay=0.9, norm_ball=norm)
    targets = np.int32([1, 2] * 6) if targeted else None
    found, model = run(attack, linear(weights, bias), gray, np.zeros(12), targets)
    assert not found.fooled.any()
    assert model.queries == 12 * (steps + 1)
    if targeted:
        expected = momentum_in_numpy(gray, weights, bias, targets, -1, settings)
    else:
        expected = momentum_in_numpy(gray, weights, bias, np.zeros(12, int), 1, settings)
    np.testing.assert_allclose(found.images, expected, atol=2e-6)


def zigzag(images):
    """The gradient of class 1 changes its sign at 0.52 in pixel 0 and is 0.01 in pixel 1."""
    flat = tf.reshape(images, [-1, 16])
    score = -tf.abs(flat[:, 0] - 0.52) + 0.01 * flat[:, 1]
    return tf.stack([10.0 + 0 * score, score], axis=1)


class Watching(TargetModel):
    """Keeps the images whose gradient it was asked for."""

    def __init__(self, classifier):
        super().__init__(classifier)
        self.asked = []

    def gradient(self, images, criterion, **settings):
        self.asked.append(np.array(images))
        return super().gradient(images, criterion, **settings)


@pytest.mark.parametrize(("decay", "third"), [(0, 0.5), (0.5, 0.5), (2, 0.6)])
def test_momentum_carries_on_where_the_gradient_turns(decay, third):
    """At 0.55, past the ridge, g is (decay - 1)/1.01 in pixel 0."""
    model = Watching(zigzag)
    image = np.full((1, 4, 4, 1), 0.5, np.float32)
    attack = MIFGSM(epsilon=0.2, num_steps=3, step_size=0.05, decay=decay)
    attack.run(model, image, Criterion(np.int32([0])), SEED)
    asked = np.array([images[0, 0, :2, 0] for images in model.asked])
    np.testing.assert_allclose(asked, [[0.5, 0.5], [0.55, 0.55], [third, 0.6]], atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_without_momentum_it_is_plain_gradient_ascent(gray, norm):
    weights = np.random.default_rng(3).normal(size=(16, 3))
    labels = np.argmax(linear(weights, np.zeros(3))(gray), axis=1)
    epsilon = {"linf": 0.015, "l2": 0.05}[norm]
    settings = {"epsilon": epsilon, "norm_ball": norm, "num_steps": 5}
    one, _ = run(MIFGSM(**settings, decay=0), linear(weights, np.zeros(3)), gray, labels)
    plain = PGD(**settings, step_size=epsilon / 5, random_start=False)
    other, _ = run(plain, linear(weights, np.zeros(3)), gray, labels)
    np.testing.assert_array_equal(one.images, other.images)
    assert 0 < one.fooled.sum() < 12


def test_momentum_of_a_flat_model_is_zero(gray):
    found, _ = run(MIFGSM(epsilon=0.1), linear(np.zeros((16, 3)), [1, 0, 0]), gray, np.zeros(12))
    np.testing.assert_array_equal(found.images, gray)


def test_who_is_fooled_costs_no_more_passes(gray):
    weights = np.zeros((16, 2))
    weights[:, 1] = 1
    # Class 1 from a mean of 0.5 on: reached after 1 of 4 steps, or already.
    images = np.stack([np.full((4, 4, 1), value, np.float32) for value in (0.48, 0.7)])
    attack = MIFGSM(epsilon=0.1, num_steps=4)
    found, model = run(attack, linear(weights, [0, 0]), images, [0, 0])
    assert found.fooled.all()
    assert model.queries == 2 + 1
    np.testing.assert_allclose(found.images[0], 0.505, atol=1e-6)
    np.testing.assert_array_equal(found.images[1], images[1])


def test_settings_that_mi_fgsm_refuses():
    for wrong in ({"decay": -0.1}, {"num_steps": 0}, {"norm_ball": "l1"}, {"epsilon": 2}):
        with pytest.raises(InvalidSettings):
            _ = MIFGSM(**{"epsilon": 0.1, **wrong}).neighborhood


# Targeted attacks: f_1 sees the left half alone, f_2 the right half alone.


@pytest.fixture
def halves():
    """Weights [16, 3]: none of class 0, of class 1 on the left, of class 2 on the right."""
    drawn = np.random.default_rng(4).choice([-2.0, -1.0, 1.0, 2.0], (4, 4))
    left, right = drawn.copy(), drawn.copy()
    left[:, 2:], right[:, :2] = 0, 0
    return np.stack([np.zeros(16), left.reshape(-1), right.reshape(-1)], axis=1)


@pytest.mark.parametrize(
    "attack",
    [
        FGSM(epsilon=0.1),
        PGD(epsilon=0.1, num_steps=10),
        PGD(epsilon=0.1, num_steps=10, restarts=2),
        MIFGSM(epsilon=0.1, num_steps=10),
    ],
    ids=["fgsm", "pgd", "restarts", "mi_fgsm"],
)
@pytest.mark.parametrize("target", [1, 2])
def test_a_target_is_raised_and_its_rival_lowered(attack, target, gray, halves):
    """The corner x + ε·(sign w_t - sign w_other) of the ball has the smallest CE(f(x), t)."""
    found, _ = run(attack, linear(halves, [3.0, 0, 0]), gray, np.zeros(12), [target] * 12)
    signs = np.sign(halves)
    corner = 0.1 * (signs[:, target] - signs[:, 3 - target])
    assert not found.fooled.any()
    np.testing.assert_allclose(found.images, np.float64(gray) + corner.reshape(4, 4, 1), atol=1e-6)


@pytest.mark.parametrize("room", [0.98, 1.02])
@pytest.mark.parametrize(
    ("attack", "dual"),
    [
        (FGSM, lambda w: np.abs(w).sum()),
        (PGD, lambda w: np.abs(w).sum()),
        (MIFGSM, lambda w: np.abs(w).sum()),
    ],
)
def test_a_target_is_reached_just_where_the_bound_says(attack, dual, room, gray, halves):
    """f_2 must gain the lead of class 0; class 1 leads nowhere."""
    logits = linear(halves, [1.5, -20, 0])(gray).numpy()
    gap = logits[:, 0] - logits[:, 2]
    assert (gap > 0.1).all()
    epsilon = float(room * np.median(gap) / dual(halves[:, 2]))
    found, _ = run(attack(epsilon=epsilon), linear(halves, [1.5, -20, 0]), gray, [0] * 12, [2] * 12)
    expected = gap < epsilon * dual(halves[:, 2])
    assert 3 <= expected.sum() <= 9
    clear = np.abs(gap - epsilon * dual(halves[:, 2])) > 1e-3
    np.testing.assert_array_equal(found.fooled[clear], expected[clear])


def test_a_targeted_l2_attack_reaches_what_the_l2_bound_allows(gray, halves):
    logits = linear(halves, [1.5, -20, 0])(gray).numpy()
    gap, length = logits[:, 0] - logits[:, 2], np.sqrt(np.square(halves[:, 2]).sum())
    epsilon = float(np.median(gap) / length)
    for attack in (PGD, MIFGSM):
        found, _ = run(
            attack(epsilon=epsilon, norm_ball="l2"),
            linear(halves, [1.5, -20, 0]), gray, [0] * 12, [2] * 12,
        )  # fmt: skip
        clear = np.abs(gap - epsilon * length) > 0.02
        np.testing.assert_array_equal(found.fooled[clear], gap[clear] < epsilon * length)
        assert found.fooled[clear].any()
        assert not found.fooled[clear].all()


def test_another_wrong_answer_does_not_end_a_targeted_attack(gray, halves):
    """Class 1 is answered all along; only class 2 counts."""
    classifier = linear(halves, [0.0, 20, 0])
    for attack in (FGSM(epsilon=0.1), PGD(epsilon=0.1), MIFGSM(epsilon=0.1)):
        untargeted, _ = run(attack, classifier, gray, np.zeros(12))
        targeted, _ = run(attack, classifier, gray, np.zeros(12), [2] * 12)
        assert untargeted.fooled.all()
        assert not targeted.fooled.any()


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
        assert found.fooled.all()
        np.testing.assert_allclose(found.parameters, [moved], atol=1e-6)
    smaller = GridAdv(grid=(3, 3, 1), max_translation=1, max_rotation=0)
    assert not run(smaller, two_spots, image, [0], [2])[0].fooled.any()
    # Of all those that fool, none reaches a target that sees nothing.
    blind = lambda x: two_spots(x) * [1.0, 1.0, 0.0]  # noqa: E731
    assert run(attack, blind, image, [0])[0].fooled.all()
    assert not run(attack, blind, image, [0], [2])[0].fooled.any()


def test_random_draws_reach_a_target_by_chance_alone():
    image = np.zeros((1, 9, 9, 1), np.float32)
    image[0, 3:6, 3:6, 0] = 1.0
    attack = RandAdv(num_samples=60, max_rotation=0, max_translation=2)
    for target in (1, 2):
        found, _ = run(attack, two_spots, image, [0], [target])
        assert found.fooled.all()
        assert np.argmax(two_spots(found.images), axis=1) == [target]


# Models that answer badly.


def test_a_gradient_that_is_no_number_shows_no_way(gray):
    """√ has an infinite slope at 0, and a direction of length 1 is ∞/∞ there."""

    def roots(images):
        flat = tf.reshape(images, [-1, 16])
        dark = tf.reduce_sum(tf.sqrt(flat[:, :8]), axis=1)
        score = 1e-3 * dark + tf.reduce_mean(flat[:, 8:], axis=1)
        return tf.stack([0 * score + 0.62, score], axis=1)

    images = np.array(gray)
    images[:, :2] = 0
    for attack in (
        FGSM(epsilon=0.2),
        PGD(epsilon=0.2, random_start=False),
        PGD(epsilon=0.8, random_start=False, norm_ball="l2"),
        MIFGSM(epsilon=0.8, norm_ball="l2"),
    ):
        outcome = evaluate_robustness(roots, images, np.zeros(12, int), [attack])
        verdict = outcome.verdicts[attack.name]
        assert np.isfinite(verdict.images).all()
        assert (verdict.classes == 1).all()


@pytest.mark.parametrize("attack", [FGSM(epsilon=0.1), PGD(epsilon=0.1), MIFGSM(epsilon=0.1)])
def test_a_model_that_answers_nan_is_never_right(attack, gray):
    nowhere = lambda x: tf.reshape(x, [-1, 16])[:, :3] * np.nan  # noqa: E731
    outcome = evaluate_robustness(nowhere, gray, np.zeros(12, int), [attack])
    assert not outcome.right.any()
    assert not outcome.still_right(attack.name).any()
    assert np.isfinite(outcome.verdicts[attack.name].images).all()


def test_a_model_known_by_its_answers_alone_has_no_gradient(gray):
    model = QueryModel(lambda x: x.reshape(len(x), -1)[:, :3])
    for attack in (FGSM(epsilon=0.1), PGD(epsilon=0.1), MIFGSM(epsilon=0.1)):
        assert attack.needs_gradients
        with pytest.raises(UserError, match="no gradient"):
            attack.run(model, gray, Criterion(np.zeros(12, np.int32)), SEED)
