"""Smallest perturbations: C&W and DDN in L2, JSMA and Pointwise in L0, where they are known."""

import itertools
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.attacks import (
    DDN,
    JSMA,
    CarliniWagner,
    Criterion,
    Pointwise,
    QueryModel,
    TargetModel,
)
from keras_srt.attacks.carlini_wagner import _Descent
from keras_srt.attacks.jsma import best_pairs
from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.tensorflow import keras
from keras_srt.evaluation.runner import evaluate_robustness

SEED = tf.constant([3, 5])
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
every_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
in_l2 = pytest.mark.parametrize("attack", [ATTACKS["cw"], ATTACKS["ddn"]], ids=["cw", "ddn"])


@pytest.fixture(scope="module")
def gray():
    """20 images of 4×4 pixels, far from 0 and 1."""
    return np.float32(np.random.default_rng(1).uniform(0.4, 0.6, (20, 4, 4, 1)))


def linear(weights, bias):
    """f(x) = (x - 1/2)·W + b, for W of shape [16, classes]."""
    weights, bias = tf.constant(weights, tf.float32), tf.constant(bias, tf.float32)
    return lambda images: (tf.reshape(images, [-1, 16]) - 0.5) @ weights + bias


def goal_of(labels, targets=None):
    return Criterion(np.int32(labels), None if targets is None else np.int32(targets))


def run(attack, classifier, images, labels, targets=None, seed=SEED):
    model = TargetModel(classifier)
    return attack.run(model, images, goal_of(labels, targets), seed), model


def constant(images):
    """Class 0, whatever the image."""
    flat = tf.reshape(images, [-1, 16])
    return 0 * flat[:, :3] + [1.0, 0.0, 0.0]


# All of them.


@every_attack
def test_what_is_answered_as_wanted_already_costs_one_question(attack, gray):
    found, model = run(attack, constant, gray, np.ones(20))
    assert found.fooled.all()
    np.testing.assert_array_equal(found.nearest, gray)
    np.testing.assert_array_equal(found.images, gray)
    assert model.queries == 20


@every_attack
@pytest.mark.parametrize("targets", [None, [2] * 20], ids=["untargeted", "targeted"])
def test_a_model_that_can_not_be_fooled(attack, targets, gray):
    found, _ = run(attack, constant, gray, np.zeros(20), targets)
    assert not found.fooled.any()
    np.testing.assert_array_equal(found.nearest, gray)
    np.testing.assert_array_equal(found.images, gray)


@every_attack
def test_no_distance_is_told_where_nothing_was_found(attack, gray):
    outcome = evaluate_robustness(constant, gray, np.zeros(20, int), [attack])
    assert np.isinf(outcome.verdicts[attack.name].distances).all()
    (told,) = outcome.report()["attacks"]
    assert told["accuracy"] == 1.0
    assert told["distance"]["median"] is None


@every_attack
def test_a_model_that_answers_nan_is_never_right(attack, gray):
    outcome = evaluate_robustness(lambda x: constant(x) * np.nan, gray, np.zeros(20, int), [attack])
    assert not outcome.right.any()
    np.testing.assert_array_equal(outcome.verdicts[attack.name].images, gray)


@every_attack
def test_one_nan_on_the_way_does_no_harm(attack, gray):
    """Above a mean of 0.55 the model answers NaN, which is no right answer."""

    def fragile(images):
        mean = tf.reduce_mean(images, axis=[1, 2, 3])
        return constant(images) + tf.where(mean > 0.55, np.nan, 0.1 * mean)[:, None] * [-1, 1.0, 0]

    outcome = evaluate_robustness(fragile, gray, np.zeros(20, int), [attack])
    verdict = outcome.verdicts[attack.name]
    assert np.isfinite(verdict.images).all()
    if attack.name != "pointwise":
        assert set(np.unique(verdict.classes)) <= {-1, 0}
    assert (verdict.classes == -1).any()


@every_attack
def test_the_radius_decides_what_counts(attack):
    weights = np.random.default_rng(2).normal(size=(16, 3))
    classifier = linear(weights, [3.0, 0, 0])
    images = np.float32(np.random.default_rng(1).uniform(0.1, 0.9, (20, 4, 4, 1)))
    labels = np.argmax(classifier(images), axis=1)
    settings = {key: value for key, value in CW.items() if attack.name == "cw"}
    all_of_them, _ = run(type(attack)(**{**settings, "epsilon": 99}), classifier, images, labels)
    assert all_of_them.fooled.all()
    lengths = attack.ball.distance(np.float64(all_of_them.nearest) - images)
    radius = float(np.quantile(lengths, 0.3, method="lower"))
    found, _ = run(type(attack)(**{**settings, "epsilon": radius}), classifier, images, labels)
    np.testing.assert_array_equal(found.nearest, all_of_them.nearest)
    np.testing.assert_array_equal(found.fooled, lengths <= radius + 1e-6)
    assert 0 < found.fooled.sum() < 20
    np.testing.assert_array_equal(found.images[found.fooled], found.nearest[found.fooled])
    np.testing.assert_array_equal(found.images[~found.fooled], images[~found.fooled])


@pytest.mark.parametrize("name", ["cw", "ddn", "jsma"])
def test_who_else_is_in_the_batch_matters_to_none(name, gray):
    weights = np.random.default_rng(2).normal(size=(16, 3))
    classifier = linear(weights, [0, 0, 0])
    labels = np.argmax(classifier(gray), axis=1)
    whole, _ = run(ATTACKS[name], classifier, gray, labels)
    some = slice(7, 14)
    part, _ = run(ATTACKS[name], classifier, gray[some], labels[some])
    np.testing.assert_allclose(part.nearest, whole.nearest[some], atol=2e-3)


# L2: linear models have closed forms.


def pairwise_distances(weights, bias, images, labels):
    """|f_y - f_j| / ‖w_y - w_j‖₂ for every class j, float64 [n, classes]; infinite for y."""
    logits = (np.float64(images).reshape(len(images), -1) - 0.5) @ weights + bias
    own = logits[np.arange(len(labels)), labels]
    away = weights[:, labels].T[:, :, None] - weights[None]
    length = np.sqrt(np.square(away).sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (own[:, None] - logits) / length
    return np.where(np.arange(len(bias)) == np.asarray(labels)[:, None], np.inf, ratio)


@in_l2
def test_the_hyperplane_of_a_linear_model_is_found(attack, gray):
    weights, bias = np.random.default_rng(3).normal(size=(16, 2)), np.array([2.0, 0])
    labels = np.argmax(linear(weights, bias)(gray), axis=1)
    expected = pairwise_distances(weights, bias, gray, labels).min(axis=1)
    found, _ = run(attack, linear(weights, bias), gray, labels)
    length = np.sqrt(np.square(np.float64(found.nearest) - gray).sum(axis=(1, 2, 3)))
    assert found.fooled.all()
    assert np.all(length >= expected - 1e-6)
    assert np.max(length / expected) < 1.03
    assert np.median(length / expected) < 1.02


@in_l2
def test_no_distance_is_below_that_of_the_nearest_of_several_hyperplanes(attack, gray):
    weights, bias = np.random.default_rng(3).normal(size=(16, 4)), np.array([2.0, 0, 0, 0])
    labels = np.argmax(linear(weights, bias)(gray), axis=1)
    expected = pairwise_distances(weights, bias, gray, labels).min(axis=1)
    found, _ = run(attack, linear(weights, bias), gray, labels)
    length = np.sqrt(np.square(np.float64(found.nearest) - gray).sum(axis=(1, 2, 3)))
    assert found.fooled.all()
    assert np.all(length >= expected - 1e-6)
    # C&W follows the class of the largest logit, which needn't be the nearest one.
    assert np.median(length / expected) < 1.03


@in_l2
def test_a_target_behind_one_hyperplane_is_reached_at_its_distance(attack, gray):
    weights = np.random.default_rng(4).normal(size=(16, 3))
    bias = np.array([1.0, -30, 0])
    expected = pairwise_distances(weights, bias, gray, np.zeros(20, int))[:, 2]
    found, _ = run(attack, linear(weights, bias), gray, np.zeros(20), [2] * 20)
    length = np.sqrt(np.square(np.float64(found.nearest) - gray).sum(axis=(1, 2, 3)))
    reached = np.argmax(linear(weights, bias)(found.nearest), axis=1) == 2
    assert reached.all()
    assert np.all(length >= expected - 1e-6)
    assert np.mean(length / expected) < 1.03


@in_l2
def test_a_target_further_away_than_another_class(attack, gray):
    """The nearest other class is 1; only class 2 counts."""
    weights, bias = np.random.default_rng(4).normal(size=(16, 3)), np.array([0.6, 0.5, -0.5])
    labels = np.argmax(linear(weights, bias)(gray), axis=1)
    of_others = labels != 2
    found, _ = run(attack, linear(weights, bias), gray, labels, [2] * 20)
    other, _ = run(attack, linear(weights, bias), gray, labels)
    assert np.all(np.argmax(linear(weights, bias)(found.nearest), axis=1) == 2)
    near, far = (
        np.sqrt(np.square(np.float64(one.nearest) - gray).sum(axis=(1, 2, 3)))[of_others]
        for one in (other, found)
    )
    assert np.all(far > 0.97 * near)
    assert np.median(far / near) > 1.1


@in_l2
def test_distances_are_measured_outside_of_the_attack(attack, gray):
    weights, bias = np.random.default_rng(3).normal(size=(16, 2)), np.array([2.0, 0])
    labels = np.argmax(linear(weights, bias)(gray), axis=1)
    expected = pairwise_distances(weights, bias, gray, labels).min(axis=1)
    outcome = evaluate_robustness(linear(weights, bias), gray, labels, [attack])
    np.testing.assert_allclose(outcome.verdicts[attack.name].distances, expected, rtol=0.03)


# C&W.


def test_adam_is_the_adam_of_keras():
    generator = np.random.default_rng(5)
    images = np.float32(generator.uniform(0.1, 0.9, (3, 2, 2, 1)))
    descent, squashed = _Descent(images, 0.03), tf.Variable(np.arctanh(2 * images - 1))
    # Keras adds its ε after scaling by the bias: alike where gradients are not tiny.
    adam = keras.optimizers.Adam(0.03, epsilon=1e-9)
    np.testing.assert_allclose(descent.images, images, atol=2e-6)
    for step in range(6):
        gradient = np.float32(generator.normal(size=images.shape))
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(gradient * (tf.tanh(squashed) + 1) / 2)
        adam.apply_gradients([(tape.gradient(loss, squashed), squashed)])
        descent.step(gradient)
        np.testing.assert_allclose(
            descent.images, (np.tanh(squashed.numpy()) + 1) / 2, atol=1e-5, err_msg=str(step)
        )


def test_images_that_are_dropped_take_their_moments_along():
    generator = np.random.default_rng(6)
    images = np.float32(generator.uniform(0, 1, (3, 2, 2, 1)))
    whole, part = _Descent(images, 0.03), _Descent(images, 0.03)
    chosen = np.array([True, False, True])
    for step in range(5):
        gradient = np.float32(generator.normal(size=images.shape))
        whole.step(gradient)
        part.step(gradient if step < 2 else gradient[chosen])
        if step == 1:
            part.keep(chosen)
    np.testing.assert_array_equal(part.images, whole.images[chosen])
    assert part.images.min() >= 0
    assert part.images.max() <= 1


@pytest.mark.parametrize(
    ("succeeds", "expected"),
    [
        ([0, 0, 0, 0], [1e-3, 1e-2, 1e-1, 1.0]),
        ([0, 0, 1, 1, 0], [1e-3, 1e-2, 1e-1, 0.055, 0.0325]),
        ([1, 1, 0, 1], [1e-3, 5e-4, 2.5e-4, 3.75e-4]),
    ],
)
def test_the_constant_is_found_by_bisection(monkeypatch, gray, succeeds, expected):
    tried = []

    def scripted(self, model, images, criterion, const):
        tried.append(const[0])
        length = 4.0 - len(tried) if succeeds[len(tried) - 1] else np.inf
        return images + np.float32(0.01 * len(tried)), np.array([length])

    monkeypatch.setattr(CarliniWagner, "_search", scripted)
    attack = CarliniWagner(epsilon=1, searches=len(succeeds))
    nearest = attack.find_nearest(None, gray[:1], goal_of([0]), SEED)
    np.testing.assert_allclose(tried, expected)
    # The shortest of those found, which here is the last.
    last = max((k + 1 for k, success in enumerate(succeeds) if success), default=0)
    np.testing.assert_allclose(nearest, gray[:1] + 0.01 * last, atol=1e-6)


@pytest.mark.parametrize(("abort_early", "iterations"), [(True, 1 + 4), (False, 40)])
def test_an_image_that_stalls_drops_out_at_the_second_look(abort_early, iterations, gray):
    attack = CarliniWagner(epsilon=1, searches=3, iterations=40, abort_early=abort_early)
    _, model = run(attack, constant, gray, np.zeros(20))
    # The question at the start, three searches, and one about what was found.
    assert model.queries == 20 * (1 + 3 * iterations + 1)


def test_confidence_is_the_margin_of_what_is_found(gray):
    weights, bias = np.random.default_rng(3).normal(size=(16, 2)), np.zeros(2)
    classifier = linear(weights, bias)
    labels = np.argmax(classifier(gray), axis=1)
    found, _ = run(CarliniWagner(**CW, confidence=3), classifier, gray, labels)
    logits = classifier(found.nearest).numpy()
    rows = np.arange(20)
    lead = logits[rows, 1 - labels] - logits[rows, labels]
    assert np.all(lead >= 3 - 1e-5)
    away = np.sqrt(np.square(weights[:, 1] - weights[:, 0]).sum())
    expected = pairwise_distances(weights, bias, gray, labels).min(axis=1) + 3 / away
    length = np.sqrt(np.square(np.float64(found.nearest) - gray).sum(axis=(1, 2, 3)))
    np.testing.assert_allclose(length, expected, rtol=0.02)


def test_black_and_white_pixels_can_move_too():
    """arctanh has them at ∓7.25, from where Adam needs some steps to be seen."""
    images = np.float32(np.random.default_rng(7).integers(0, 2, (6, 4, 4, 1)))
    classifier = linear(np.stack([np.zeros(16), np.ones(16)], axis=1), [0, 0.1])
    labels = np.argmax(classifier(images), axis=1)
    settings = {"iterations": 150, "searches": 2, "initial_const": 1, "learning_rate": 0.1}
    attack = CarliniWagner(epsilon=4, **settings, abort_early=False)
    found, _ = run(attack, classifier, images, labels)
    assert found.fooled.all()


# DDN.


class Watching(TargetModel):
    """Keeps the images whose gradient it was asked for."""

    def __init__(self, classifier):
        super().__init__(classifier)
        self.asked = []

    def gradient(self, images, criterion, **settings):
        self.asked.append(np.array(images))
        return super().gradient(images, criterion, **settings)


def test_the_norm_grows_until_it_fools_and_shrinks_while_it_does():
    """One image, one direction: it fools from a length of 0.3 on."""
    weights = np.zeros((16, 2))
    weights[0, 1] = 1
    image, model = np.full((1, 4, 4, 1), 0.5, np.float32), Watching(linear(weights, [0.3, 0]))
    attack = DDN(epsilon=1, num_steps=9, gamma=0.2, init_norm=0.2)
    found = attack.run(model, image, goal_of([0]), SEED)
    lengths = [float(asked[0, 0, 0, 0] - 0.5) for asked in model.asked]
    # ×1.2 below 0.3 and ×0.8 above it.
    norms, norm = [0.0], 0.2
    for _ in range(9):
        norm *= 0.8 if norms[-1] > 0.3 else 1.2
        norms.append(norm)
    np.testing.assert_allclose(lengths, norms[:9], atol=1e-6)
    # The last one is looked at, too.
    shortest = min(value for value in norms if value > 0.3)
    np.testing.assert_allclose(found.nearest[0, 0, 0, 0] - 0.5, shortest, atol=1e-6)
    assert model.queries == 1 + 9 + 1 + 1


def test_steps_shrink_from_1_to_0_01_by_a_cosine():
    """The direction turns by the step's share; norms stay 1 where γ is 0."""
    weights = np.zeros((16, 2))
    image, model = np.full((1, 4, 4, 1), 0.5, np.float32), Watching(linear(weights, [1, 0]))
    turning = iter([(1.0, 0.0), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0)])

    def gradient(images, criterion, **settings):
        answers, slope = Watching.gradient(model, images, criterion, **settings)
        slope[0, 0, :2, 0] = next(turning)
        return answers, slope

    watching, model.gradient = model, gradient
    DDN(epsilon=1, num_steps=4, gamma=0, init_norm=0.1).run(model, image, goal_of([0]), SEED)
    angle = [np.arctan2(*(asked[0, 0, :2, 0] - 0.5)[::-1]) for asked in watching.asked]
    expected, now = [0.0, 0.0], np.array([0.1, 0.0])
    for step in (1, 2):
        length = 0.01 + 0.99 * (1 + np.cos(np.pi * step / 4)) / 2
        now[1] += length
        now *= 0.1 / np.sqrt(np.square(now).sum())
        expected.append(np.arctan2(now[1], now[0]))
    np.testing.assert_allclose(angle, expected, atol=1e-5)


def test_gray_levels_can_be_stored(gray):
    weights, bias = np.random.default_rng(3).normal(size=(16, 2)), np.zeros(2)
    images = np.float32(np.round(gray * 255) / 255)
    labels = np.argmax(linear(weights, bias)(images), axis=1)
    found, _ = run(DDN(epsilon=1, levels=256), linear(weights, bias), images, labels)
    stored = np.float32(np.uint8(np.round(found.nearest * 255)) / 255)
    np.testing.assert_allclose(found.nearest, stored, atol=1e-7)
    free, _ = run(DDN(epsilon=1), linear(weights, bias), images, labels)
    assert np.abs(free.nearest * 255 - np.round(free.nearest * 255)).max() > 0.1
    assert found.fooled.all()


def test_where_the_gradient_vanishes_the_direction_is_drawn(gray):
    def plateau(images):
        far = tf.reduce_sum(tf.square(images - 0.5), axis=[1, 2, 3]) > 0.5
        return constant(images) + 2 * tf.cast(far, tf.float32)[:, None] * [0.0, 1.0, 0.0]

    found, _ = run(DDN(epsilon=2), plateau, gray, np.zeros(20))
    again, _ = run(DDN(epsilon=2), plateau, gray, np.zeros(20))
    other, _ = run(DDN(epsilon=2), plateau, gray, np.zeros(20), seed=tf.constant([-3, 6]))
    assert found.fooled.all()
    np.testing.assert_array_equal(found.nearest, again.nearest)
    assert np.abs(found.nearest - other.nearest).max() > 0.05


# JSMA.


def brute_force(gain, drop, free):
    """The largest product of all pairs, written out; 0 if no pair will do."""
    best = 0.0
    for p, q in itertools.combinations(np.flatnonzero(free), 2):
        u, v = gain[p] + gain[q], drop[p] + drop[q]
        if u > 0 and v > 0:
            best = max(best, u * v)
    return best


KINDS = {
    "independent": lambda g: g.normal(size=(2, 40, 11)),
    "alike": lambda g: np.array([1, 1])[:, None, None] * g.normal(size=(1, 40, 11)),
    "opposed": lambda g: np.array([1, -1])[:, None, None] * g.normal(size=(1, 40, 11)) + 0.5,
    "ties": lambda g: np.float64(g.integers(-2, 3, (2, 40, 11))),
    "negative": lambda g: -np.abs(g.normal(size=(2, 40, 11))),
    "one good value": lambda g: np.where(np.arange(11) == 3, 5.0, g.uniform(-6, -1, (2, 40, 11))),
    "tiny": lambda g: 1e-30 * g.normal(size=(2, 40, 11)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
def test_the_best_pair_is_that_of_all_pairs(kind, share):
    generator = np.random.default_rng(8)
    gain, drop = KINDS[kind](generator)
    free = generator.random(gain.shape) < share
    pairs, exists = best_pairs(gain, drop, free)
    for row, (p, q) in enumerate(pairs):
        expected = brute_force(gain[row], drop[row], free[row])
        assert exists[row] == (expected > 0)
        if exists[row]:
            assert p != q
            assert free[row, p]
            assert free[row, q]
            score = (gain[row, p] + gain[row, q]) * (drop[row, p] + drop[row, q])
            assert score == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("opposed", [False, True])
def test_the_search_for_pairs_needs_no_table_of_pairs(opposed):
    generator = np.random.default_rng(9)
    size = 600 if opposed else 3072
    gain = generator.normal(size=(4, size))
    drop = 1 - gain if opposed else generator.normal(size=(4, size))
    free = np.ones((4, size), bool)
    tracemalloc.start()
    best_pairs(gain, drop, free)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # 4 · size² numbers would be 11 and 302 MB.
    assert peak < 20 * gain.nbytes


# Of class 1: f_1 rises by 1, 4, ½, 2; the others together fall by 4, ½, 3, 2.
RISE, FALL = np.array([1.0, 4, 0.5, 2]), np.array([4.0, 0.5, 3, 2])


def four_pixels(lead, sign=1.0):
    """f = (lead - b·r, a·r, -100 - …) for the first four values, r = how far they moved."""
    fall_of_0 = np.array([3.0, 0.5, 2, 2])

    def logits(images):
        moved = tf.reshape(images, [-1, 16])[:, :4] - (0.0 if sign > 0 else 1.0)
        moved = tf.cast(sign * moved, tf.float32)
        sums = [tf.reduce_sum(moved * w, axis=1) for w in (fall_of_0, RISE, FALL - fall_of_0)]
        return tf.stack([lead - sums[0], sums[1], -100 - sums[2]], axis=1)

    return logits


@pytest.mark.parametrize("theta", [1.0, -1.0])
@pytest.mark.parametrize("targets", [None, [1]], ids=["untargeted", "targeted"])
def test_jsma_takes_the_pair_that_was_computed_by_hand(theta, targets):
    """(1 + 4)·(4 + ½) = 22.5; the next best are 18 and 15.75. f_1 = 5 then beats 8 - 3.5."""
    image = np.full((1, 4, 4, 1), 0.0 if theta > 0 else 1.0, np.float32)
    found, model = run(JSMA(epsilon=2, theta=theta), four_pixels(8.0, theta), image, [0], targets)
    expected = np.array(image)
    expected[0, 0, :2, 0] += theta
    np.testing.assert_array_equal(found.nearest, expected)
    assert found.fooled.all()
    if targets:
        # At the start, the logits, two for the pair, one for the answer, one at the end.
        assert model.queries == 1 + 1 + 2 + 1 + 1


def test_jsma_goes_on_with_the_best_pair_of_the_rest():
    """After 22.5 of (0, 1): (2, 3) has 12.5; f_1 = 7.5 then beats 14 - 7.5."""
    image = np.zeros((1, 4, 4, 1), np.float32)
    found, _ = run(JSMA(epsilon=4), four_pixels(14.0), image, [0], [1])
    np.testing.assert_array_equal(found.nearest.reshape(-1), [1, 1, 1, 1] + [0] * 12)
    for gamma, fooled in ((0.24, False), (0.25, True)):
        found, _ = run(JSMA(epsilon=4, gamma=gamma), four_pixels(14.0), image, [0], [1])
        assert found.fooled.all() == fooled
    # No pair is left that helps.
    found, _ = run(JSMA(epsilon=4), four_pixels(16.0), image, [0], [1])
    assert not found.fooled.any()
    np.testing.assert_array_equal(found.nearest, image)


def test_jsma_moves_values_by_theta_until_the_bound():
    """(0, 1) goes by 0.4 as long as it is inside: f_1 = 4 beats 7.3 - 2.8 at 0.8."""
    image = np.zeros((1, 4, 4, 1), np.float32)
    found, _ = run(JSMA(epsilon=2, theta=0.4), four_pixels(6.7), image, [0], [1])
    np.testing.assert_allclose(found.nearest.reshape(-1)[:5], [0.8, 0.8, 0, 0, 0], atol=1e-6)
    full, _ = run(JSMA(epsilon=2, theta=0.4), four_pixels(8.0), image, [0], [1])
    np.testing.assert_allclose(full.nearest.reshape(-1)[:5], [1, 1, 0, 0, 0], atol=1e-6)


def test_untargeted_jsma_is_the_best_of_all_targets(gray):
    weights = np.random.default_rng(10).normal(size=(16, 4))
    classifier = linear(weights, [2.5, 0, 0, 0])
    labels = np.int32(np.argmax(classifier(gray), axis=1))
    untargeted, model = run(JSMA(epsilon=16), classifier, gray, labels)
    counts, queries = [], 0
    for turn in range(1, 4):
        one, its = run(JSMA(epsilon=16), classifier, gray, labels, (labels + turn) % 4)
        changed = np.count_nonzero(one.nearest - gray, axis=(1, 2, 3))
        counts.append(np.where(one.fooled, changed, np.inf))
        queries += its.queries
    # A third class on the way counts, too, so that it may be better still.
    best = np.min(counts, axis=0)
    changed = np.count_nonzero(untargeted.nearest - gray, axis=(1, 2, 3))
    assert untargeted.fooled.all()
    assert np.all(changed <= best)
    assert np.mean(changed == best) > 0.7
    assert len(np.unique(np.argmin(counts, axis=0))) > 1
    assert model.queries < queries


def test_a_turn_of_jsma_ends_where_it_can_not_need_fewer_values():
    """Each of the classes 1 and 2 needs one pair: (0, 1) or (2, 3)."""

    def logits(images):
        flat = tf.reshape(images, [-1, 16])[:, :4]
        one, two = flat[:, 0] + flat[:, 1], flat[:, 2] + flat[:, 3]
        return tf.stack([2.5 - one - two, one, two - 0.1], axis=1)

    image = np.zeros((1, 4, 4, 1), np.float32)
    for target, queries in ((None, 8), ([1], 6), ([2], 6)):
        found, model = run(JSMA(epsilon=2), logits, image, [0], target)
        assert found.fooled.all()
        first = 2 if target == [2] else 0
        np.testing.assert_array_equal(np.flatnonzero(found.nearest), [first, first + 1])
        # At the start, the logits, two for a pair, one for its answer, one at the end; the
        # second turn has two for its pair, and asks for no answer.
        assert model.queries == queries


@pytest.mark.parametrize("wrong", [{"theta": 0}, {"theta": 1.5}, {"gamma": 2}, {"gamma": -0.1}])
def test_settings_that_jsma_refuses(wrong):
    with pytest.raises(InvalidSettings, match=next(iter(wrong))):
        JSMA(epsilon=1, **wrong)


# Pointwise.


def one_pixel(images):
    """Class 1 where the pixel (1, 2) is brighter than 0.5, whatever the others are."""
    there = images[:, 1, 2, 0]
    return tf.stack([0.5 + 0 * there, there], axis=1)


def test_pointwise_changes_the_one_pixel_that_matters_and_nothing_else():
    images = np.float32(np.random.default_rng(11).uniform(0, 0.4, (6, 4, 4, 1)))
    found, _ = run(Pointwise(epsilon=1), one_pixel, images, np.zeros(6))
    assert found.fooled.all()
    others = np.ones((4, 4), bool)
    others[1, 2] = False
    np.testing.assert_array_equal(found.nearest[:, others], images[:, others])
    # From 1, ten halvings of the way to the original leave at most 1/1024 of it.
    reached = found.nearest[:, 1, 2, 0]
    assert np.all(reached > 0.5)
    assert np.all(reached <= 0.5 + 1 / 1024)
    whole, _ = run(Pointwise(epsilon=1, bisections=0), one_pixel, images, np.zeros(6))
    np.testing.assert_array_equal(whole.nearest[:, 1, 2, 0], np.ones(6))


def test_pointwise_uses_nothing_but_the_classes(gray):
    weights = np.random.default_rng(2).normal(size=(16, 3))
    classifier = linear(weights, [0, 0, 0])
    labels = np.argmax(classifier(gray), axis=1)
    model = QueryModel(lambda images: classifier(images).numpy())
    found = Pointwise(epsilon=16).run(model, gray, goal_of(labels), SEED)
    # Any logits with the same classes will do.
    blunt = QueryModel(lambda images: np.eye(3)[np.argmax(classifier(images), axis=1)])
    again = Pointwise(epsilon=16).run(blunt, gray, goal_of(labels), SEED)
    assert not Pointwise.needs_gradients
    np.testing.assert_array_equal(found.nearest, again.nearest)
    assert found.fooled.all()
    for other in (CarliniWagner(epsilon=1), DDN(epsilon=1), JSMA(epsilon=1)):
        assert other.needs_gradients
        with pytest.raises(UserError, match="no gradient"):
            other.run(model, gray, goal_of(labels), SEED)


def test_no_value_that_pointwise_leaves_could_be_set_back(gray):
    weights = np.random.default_rng(12).normal(size=(16, 3))

    def classifier(images):
        return linear(weights, [1.5, 0, 0])(tf.sin(3 * images))

    labels = np.argmax(classifier(gray), axis=1)
    found, _ = run(
        Pointwise(epsilon=16, restarts=1, noise_draws=0, bisections=0), classifier, gray, labels
    )
    assert found.fooled.all()
    tried = 0
    for image, original, label in zip(found.nearest, gray, labels, strict=True):
        for place in np.argwhere(image != original):
            less = image.copy()
            less[tuple(place)] = original[tuple(place)]
            assert np.argmax(classifier(less[None]), axis=1) == [label]
            tried += 1
    assert tried > 40


def test_more_runs_never_need_more_values(gray):
    weights = np.random.default_rng(12).normal(size=(16, 3))
    classifier = linear(weights, [2.5, 0, 0])
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


def test_draws_of_less_noise_start_nearer(gray):
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
        assert found.fooled.all()
        counts.append(np.count_nonzero(found.nearest != wide, axis=(1, 2, 3)).mean())
    assert counts[1] < 0.9 * counts[0]


def test_each_image_has_its_own_noise_and_order():
    same = np.full((8, 4, 4, 1), 0.5, np.float32)
    classifier = linear(np.stack([np.zeros(16), np.ones(16)], axis=1), [1.2, 0])
    found, _ = run(
        Pointwise(epsilon=16, restarts=1, noise_draws=0, bisections=0),
        classifier,
        same,
        np.zeros(8),
    )
    assert found.fooled.all()
    assert len(np.unique(found.nearest.reshape(8, -1), axis=0)) > 4
    other, _ = run(
        Pointwise(epsilon=16, restarts=1, noise_draws=0, bisections=0),
        classifier,
        same,
        np.zeros(8),
        seed=tf.constant([3, 6]),
    )
    assert np.any(other.nearest != found.nearest)


def test_where_noise_never_fools_another_image_is_the_start(gray):
    """Class 1 has two gray pixels of nearly one value, which salt and pepper never have."""

    def level(images):
        near = tf.abs(images[:, 0, 0, 0] - 0.9) + tf.abs(images[:, 0, 1, 0] - 0.9) < 0.1
        return tf.stack([0.5 + 0 * images[:, 0, 0, 0], tf.cast(near, tf.float32)], axis=1)

    images = np.array(gray[:4])
    images[3, 0, :2] = 0.9
    alone, _ = run(Pointwise(epsilon=16), level, images[:3], np.zeros(3))
    assert not alone.fooled.any()
    np.testing.assert_array_equal(alone.nearest, images[:3])
    # The fourth is to become class 0, so that it is among those attacked.
    together, _ = run(Pointwise(epsilon=16), level, images, [0, 0, 0, 1])
    assert together.fooled.all()
    changed = np.argwhere(together.nearest[:3] != images[:3])
    assert set(map(tuple, changed[:, 1:])) == {(0, 0, 0), (0, 1, 0)}
