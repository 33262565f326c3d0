"""Auto-PGD and its losses: literals of the paper, linear, masked and randomized models."""

import numpy as np
import pytest
import tensorflow as tf
from linear_models import constant, dual_norm, length, linear, moved, predict_classes, run

from keras_srt.attacks import APGDCE, APGDDLR, APGDT, PGD
from keras_srt.attacks.apgd import checkpoints, should_halve
from keras_srt.attacks.attack_losses import cross_entropy, dlr, logit_difference, margin
from keras_srt.core.errors import InvalidSettings

generator = np.random.default_rng(11)
WEIGHTS = generator.normal(size=(6, 6, 1, 5))
IMAGES = np.float32(generator.uniform(0.35, 0.65, (40, 6, 6, 1)))
LOGITS = tf.constant([[3.0, 1.0, 0.0, -1.0, -5.0], [1.0, 2.0, 4.0, -2.0, 0.0]])


def ids(*values):
    return tf.constant(values, tf.int32)


# Losses.


def test_dlr_by_hand():
    # π of the first: 3 1 0 -1 -5; of the second: 4 2 1 0 -2.
    np.testing.assert_allclose(dlr(LOGITS, ids(0, 0), None), [-2 / 3, 3 / 3], rtol=1e-6)
    np.testing.assert_allclose(dlr(LOGITS, ids(0, 0), ids(2, 1)), [-3 / 3.5, -2 / 3.5], rtol=1e-6)


def test_targeted_dlr_equals_the_papers_while_the_label_is_predicted():
    labels, targets = ids(0, 2), ids(4, 3)
    ordered = np.sort(LOGITS, axis=1)[:, ::-1]
    paper = np.array([-5.0 - 3.0, -2.0 - 4.0])
    paper /= ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2
    np.testing.assert_allclose(dlr(LOGITS, labels, targets), paper, rtol=1e-6)


@pytest.mark.parametrize("targets", [None, (3, 4)], ids=["untargeted", "targeted"])
@pytest.mark.parametrize("classes", [3, 4, 5])
def test_dlr_is_invariant_to_shift_and_scale(targets, classes):
    logits = LOGITS[:, :classes]
    targets = None if targets is None else ids(*targets) % classes
    before = dlr(logits, ids(0, 2), targets)
    np.testing.assert_allclose(dlr(1000 * logits + 7, ids(0, 2), targets), before, rtol=1e-4)
    np.testing.assert_allclose(dlr(0.01 * logits - 3, ids(0, 2), targets), before, rtol=1e-4)
    assert np.abs(before).min() > 0.1


def test_dlr_of_few_classes():
    three, two = LOGITS[:, :3], LOGITS[:, :2]
    # 3 1 0 and 4 2 1: the denominator is f_π1 - f_π3.
    np.testing.assert_allclose(dlr(three, ids(0, 2), ids(1, 0)), [-2 / 3, -3 / 3], rtol=1e-6)
    for targets in (None, ids(1, 0)):
        found = dlr(two, ids(0, 1), targets)
        np.testing.assert_allclose(found, margin(two, ids(0, 1), targets), rtol=1e-6)
        np.testing.assert_allclose(found, [-2.0, -1.0], rtol=1e-6)


def test_dlr_has_a_gradient_at_ties():
    logits = tf.Variable([[1.0, 1.0, 1.0, 1.0]])
    with tf.GradientTape() as tape:
        loss = dlr(logits, ids(0), ids(1))
    assert np.isfinite(tape.gradient(loss, logits)).all()


def test_logit_difference_is_target_minus_label():
    np.testing.assert_allclose(logit_difference(LOGITS, ids(0, 1), ids(3, 0)), [-4, -1])
    untargeted = logit_difference(LOGITS, ids(0, 1), None)
    np.testing.assert_allclose(untargeted, margin(LOGITS, ids(0, 1), None))


# The rule of the steps.


def test_checkpoints_of_100_steps_are_the_papers():
    assert checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 50, 333])
def test_checkpoints_get_closer_and_end_with_the_steps(steps):
    points = checkpoints(steps)
    gaps = np.diff(points)
    assert points[0] == 0
    assert steps - gaps[-1] <= points[-1] <= steps
    assert np.all(gaps >= 1)
    assert np.all(np.diff(gaps) <= 0)


def test_either_condition_halves_steps():
    rises = np.array([7, 8, 8, 8, 10])  # of 10 steps, ρ = 0.75
    improved = np.array([True, True, False, False, False])
    halved = np.array([False, False, False, True, False])
    expected = [True, False, True, False, True]
    np.testing.assert_array_equal(should_halve(rises, 10, 0.75, improved, halved), expected)
    assert should_halve(np.array([6]), 8, 0.75, np.array([True]), np.array([False])).all()


def peak(images):
    """Two classes; the loss of class 0 is highest where every pixel is 0.37."""
    below = tf.reduce_mean(tf.square(images - 0.37), axis=[1, 2, 3])
    return tf.stack([0 * below + 5.0, -20 * below], axis=1)


@pytest.mark.parametrize("norm_ball", ["linf", "l2"])
def test_step_sizes_shrink_until_the_peak_is_found(norm_ball):
    """From 2ε down: a step that stayed as it was would jump to and fro around it."""
    images = np.full((3, 4, 4, 1), 0.3, np.float32)
    epsilon = 0.2 if norm_ball == "linf" else 0.8
    attack = APGDCE(epsilon=epsilon, norm_ball=norm_ball)
    found, _ = run(attack, peak, images, np.zeros(3, np.int32))
    few, _ = run(
        APGDCE(epsilon=epsilon, norm_ball=norm_ball, num_steps=10, rho=0.0),
        peak, images, np.zeros(3, np.int32),
    )  # fmt: skip
    off, few_off = (np.sqrt(np.mean((f.images - 0.37) ** 2)) for f in (found, few))
    assert off < 0.005
    assert few_off > 2 * off
    assert not found.success.any()


# Linear models: the largest margin in the ball is known.


@pytest.mark.parametrize("norm_ball", ["linf", "l2"])
def test_apgd_finds_the_worst_margin_of_a_linear_model(norm_ball):
    weights = WEIGHTS[..., :2]
    model = linear(weights)
    labels = predict_classes(model, IMAGES)
    away = (weights[..., 1] - weights[..., 0]).ravel()
    score = np.where(labels == 1, 1, -1) * ((np.float64(IMAGES) - 0.5).reshape(40, -1) @ away)
    epsilon = 0.5 * float(np.median(score) / dual_norm(away, norm_ball))
    attack = APGDCE(epsilon=epsilon, norm_ball=norm_ball)
    found, model = run(attack, model, IMAGES, labels)
    bound = score - epsilon * dual_norm(away, norm_ball)
    np.testing.assert_array_equal(found.success, bound < 0)
    logits = np.sort(model.logits(found.images), axis=1)
    kept = ~found.success
    assert 20 < kept.sum() < 40
    np.testing.assert_allclose((logits[:, 1] - logits[:, 0])[kept], bound[kept], atol=1e-5)
    assert length(moved(found, IMAGES), norm_ball).max() <= epsilon + 1e-6


def test_linf_results_reach_the_corners_of_the_box():
    images = np.float32(np.clip(np.random.default_rng(1).uniform(-0.4, 1.4, (10, 6, 6, 1)), 0, 1))
    weights = WEIGHTS[..., :2]
    labels = predict_classes(linear(weights), images)
    away = np.where(labels == 1, -1, 1)[:, None, None, None] * (
        weights[..., 1] - weights[..., 0]
    )  # fmt: skip
    found, _ = run(APGDCE(epsilon=0.01), linear(weights), images, labels)
    expected = np.clip(images + 0.01 * np.sign(away), 0, 1)
    kept = ~found.success
    assert kept.sum() >= 5
    np.testing.assert_allclose(found.images[kept], expected[kept], atol=1e-6)


@pytest.mark.parametrize("norm_ball", ["linf", "l2"])
def test_apgd_t_succeeds_exactly_where_the_bound_over_all_classes_allows(norm_ball):
    labels = predict_classes(linear(WEIGHTS), IMAGES)
    flat = WEIGHTS.reshape(-1, 5)
    logits = (np.float64(IMAGES) - 0.5).reshape(40, -1) @ flat
    gaps = logits[np.arange(40), labels][:, None] - logits
    reach = dual_norm((flat.T[None] - flat.T[labels][:, None]), norm_ball)
    nearest = np.min(np.where(gaps > 0, gaps / np.maximum(reach, 1e-9), np.inf), axis=1)
    epsilon = float(np.median(nearest))
    assert epsilon < 0.35  # stays in the box in L∞, and practically so in L2
    attack = APGDT(epsilon=epsilon, norm_ball=norm_ball, num_steps=30)
    found, _ = run(attack, linear(WEIGHTS), IMAGES, labels)
    clear = np.abs(nearest / epsilon - 1) > 0.01
    np.testing.assert_array_equal(found.success[clear], nearest[clear] < epsilon)
    assert 15 <= found.success.sum() <= 25


def test_a_targeted_attack_uses_only_its_own_target():
    labels = predict_classes(linear(WEIGHTS), IMAGES)
    targets = np.int32((labels + 2) % 5)
    for attack in (APGDCE(epsilon=0.3), APGDDLR(epsilon=0.3), APGDT(epsilon=0.3)):
        found, model = run(attack, linear(WEIGHTS), IMAGES, labels, targets=targets)
        now = predict_classes(linear(WEIGHTS), found.images)
        np.testing.assert_array_equal(found.success, now == targets)
        assert found.success.all()
        assert model.queries <= 40 * 101


def test_targets_are_the_most_likely_classes():
    """Only the second most likely class can be reached at all: the first target suffices."""
    weights = np.zeros((2, 2, 1, 6))
    weights[..., 1] = 1.0
    offset = tf.constant([0.2, 0.1, 0.0, -0.1, -0.2, -0.3])
    images = np.full((2, 2, 2, 1), 0.5, np.float32)
    classifier = lambda x: linear(weights)(x) + offset  # noqa: E731
    for targets, queries in ((1, 1 + 2), (9, 1 + 2)):
        attack = APGDT(epsilon=0.4, num_steps=50, num_targets=targets)
        found, model = run(attack, classifier, images, np.zeros(2, np.int32))
        assert found.success.all()
        assert model.queries <= 2 * (queries + 3)
    stuck = APGDT(epsilon=0.01, num_steps=3)
    _, model = run(stuck, classifier, images, np.zeros(2, np.int32))
    assert model.queries == 2 * (1 + 5 * (3 + 1))


# Cost.


@pytest.mark.parametrize(
    ("attack", "passes"),
    [
        (APGDCE(epsilon=0.1, num_steps=7), 8),
        (APGDDLR(epsilon=0.1, num_steps=7, restarts=3), 3 * 8),
        (APGDCE(epsilon=0.1, num_steps=2, eot_iter=5), 3 * 5),
        (APGDT(epsilon=0.1, num_steps=7), 1 + 3 * 8),
        (APGDT(epsilon=0.1, num_steps=7, num_targets=2, restarts=2), 1 + 2 * 2 * 8),
    ],
)
def test_a_run_costs_one_gradient_pass_more_than_steps(attack, passes):
    found, model = run(attack, constant(4), IMAGES[:6], np.zeros(6, np.int32))
    assert model.queries == 6 * passes
    assert not found.success.any()


def test_images_drop_out_after_a_success():
    labels = predict_classes(linear(WEIGHTS), IMAGES)
    all_fall = APGDCE(epsilon=0.3, num_steps=50)
    found, model = run(all_fall, linear(WEIGHTS), IMAGES, labels)
    assert found.success.all()
    assert model.queries < 40 * 6


# Gradients that vanish.


def test_large_logits_do_not_mask_the_cross_entropy():
    """A softmax of 1 to the last bit has no slope; the attack's loss has."""
    masked = linear(WEIGHTS, scale=1e5)
    labels = predict_classes(masked, IMAGES)
    away = [
        run(attack, masked, IMAGES, labels)[0].success.mean()
        for attack in (
            PGD(epsilon=0.03, num_steps=20),
            APGDCE(epsilon=0.03, num_steps=20),
            APGDDLR(epsilon=0.03, num_steps=20),
            APGDT(epsilon=0.03, num_steps=20),
        )
    ]
    bare = run(APGDT(epsilon=0.03, num_steps=20), linear(WEIGHTS), IMAGES, labels)[0].success.mean()
    assert away == [1.0, 1.0, 1.0, 1.0]
    assert bare == 1.0


# Randomized models.


def noisy(weights, level):
    """A linear model whose gradient is drowned in noise, new at every pass."""
    weights = tf.constant(weights, tf.float32)

    def logits(images):
        noise = level * tf.random.normal(tf.shape(images))
        score = tf.reduce_sum((images - 0.5) * (weights + noise), axis=[1, 2, 3])
        return tf.stack([0 * score + 1e3, score], axis=1)

    return logits


def test_averaged_gradients_defeat_random_noise():
    weights = np.sign(WEIGHTS[..., 0])
    labels = np.zeros(40, np.int32)
    right = []
    for passes in (1, 20):
        attack = APGDCE(epsilon=0.1, num_steps=1, eot_iter=passes)
        found, model = run(attack, lambda x: noisy(weights, 4.0)(x) * 1e-3, IMAGES, labels)
        right.append(np.mean(np.sign(moved(found, IMAGES)) == np.sign(weights).ravel()))
        assert model.queries == 40 * 2 * passes
    assert right[0] < 0.7
    assert right[1] > 0.75


def test_a_randomized_model_is_fooled_if_half_of_the_passes_are():
    def coin(share):
        def logits(images):
            one = tf.cast(tf.random.uniform(tf.shape(images)[:1]) < share, tf.float32)
            return tf.stack([1 - one, one + 0 * images[:, 0, 0, 0]], axis=1)

        return logits

    attack = APGDCE(epsilon=0.1, num_steps=1, eot_iter=41)
    fooled = {
        share: run(attack, coin(share), IMAGES, np.zeros(40, np.int32))[0].success.mean()
        for share in (0.2, 0.8)
    }
    assert fooled == {0.2: 0.0, 0.8: 1.0}


# The rest.


@pytest.mark.parametrize("norm_ball", ["linf", "l2"])
def test_runs_start_at_different_points_of_the_sphere(norm_ball):
    same = np.full((5, 6, 6, 1), 0.5, np.float32)
    flat = lambda x: 0 * x[:, 0, 0, :1] + [1.0, 0.0]  # noqa: E731
    attack = APGDCE(epsilon=0.2, norm_ball=norm_ball, num_steps=1)
    found, _ = run(attack, flat, same, np.zeros(5, np.int32))
    other, _ = run(attack, flat, same, np.zeros(5, np.int32), seed=[3, 6])
    starts = moved(found, same)
    np.testing.assert_allclose(length(starts, norm_ball), 0.2, rtol=1e-5)
    assert np.abs(starts - moved(other, same)).max(axis=1).min() > 0.01
    assert np.abs(starts[0] - starts[1:]).max(axis=1).min() > 0.01


def test_restarts_never_lower_success():
    def wells(images):
        """Class 1 only in a narrow range of the first pixel that no gradient points to."""
        first = images[:, 0, 0, 0]
        return tf.stack([0.5 + 0 * first, tf.exp(-1e3 * (first - 0.56) ** 2)], axis=1)

    fooled = [
        run(
            APGDCE(epsilon=0.2, num_steps=1, restarts=restarts),
            wells, np.full((30, 6, 6, 1), 0.45, np.float32), np.zeros(30, np.int32),
        )[0].success
        for restarts in (1, 2, 8)
    ]  # fmt: skip
    assert np.all(fooled[0] <= fooled[1])
    assert np.all(fooled[1] <= fooled[2])
    assert fooled[0].sum() < fooled[2].sum()


def test_two_classes_are_enough_for_every_version():
    weights = WEIGHTS[..., :2]
    labels = predict_classes(linear(weights), IMAGES)
    for attack in (APGDDLR(epsilon=0.3, num_steps=10), APGDT(epsilon=0.3, num_steps=10)):
        assert run(attack, linear(weights), IMAGES, labels)[0].success.all()


def test_losses_of_the_versions():
    assert APGDCE(epsilon=0.1).loss is cross_entropy
    assert APGDDLR(epsilon=0.1).loss is APGDT(epsilon=0.1).loss is dlr


@pytest.mark.parametrize(
    "wrong",
    [{"rho": 1.5}, {"eot_iter": 0}, {"norm_ball": "l1"}, {"restarts": 0}, {"num_targets": 0}],
    ids=str,
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidSettings, match=next(iter(wrong))):
        APGDT(epsilon=0.1, **wrong)
