"""FGSM, PGD and MI-FGSM on models whose results are known."""

import numpy as np
import pytest
import tensorflow as tf
from linear_models import SEED, RecordingModel, affine, run

from keras_srt.attacks import FGSM, MIFGSM, PGD, Criterion
from keras_srt.core.errors import InvalidSettings
from keras_srt.evaluation.runner import evaluate_robustness

EPSILON = 0.1


@pytest.fixture(scope="module")
def gray(gray):
    return gray[:12]


def two_classes(weights):
    """f(x) = (0, w·x + b), so that class 1 is predicted where w·x + b > 0."""
    weights = tf.constant(weights, tf.float32)

    def logits(images):
        score = tf.reduce_sum((images - 0.5) * weights, axis=[1, 2, 3])
        return tf.stack([tf.zeros_like(score), score], axis=1)

    return logits


WEIGHTS = np.random.default_rng(7).normal(size=(8, 8, 1))


def test_fgsm_equals_its_closed_form(pictures):
    labels = np.int32([0, 1] * 12)
    found, _ = run(FGSM(epsilon=EPSILON), two_classes(WEIGHTS), pictures, labels)
    right = np.sum((pictures - 0.5) * WEIGHTS, axis=(1, 2, 3)) > 0
    away = np.where(labels == 1, -1.0, 1.0)[:, None, None, None]
    expected = np.clip(pictures + EPSILON * away * np.sign(WEIGHTS), 0, 1)
    attacked = right == labels
    np.testing.assert_allclose(found.images[attacked], expected[attacked], atol=1e-6)
    np.testing.assert_array_equal(found.images[~attacked], pictures[~attacked])
    assert 0 < attacked.sum() < len(attacked)


@pytest.mark.parametrize("norm_ball", ["linf", "l2"])
def test_pgd_succeeds_exactly_where_the_linear_bound_allows(norm_ball):
    """Inside [0, 1] the largest change of w·δ is ε·‖w‖₁ in L∞ and ε·‖w‖₂ in L2."""
    generator = np.random.default_rng(8)
    images = np.float32(generator.uniform(0.4, 0.6, (60, 8, 8, 1)))
    score = np.sum((np.float64(images) - 0.5) * WEIGHTS, axis=(1, 2, 3))
    labels = np.int32(score > 0)
    dual = np.abs(WEIGHTS).sum() if norm_ball == "linf" else np.sqrt(np.square(WEIGHTS).sum())
    epsilon = float(np.median(np.abs(score)) / dual)  # succeeds on about half of them
    assert epsilon < 0.4
    attack = PGD(epsilon=epsilon, norm_ball=norm_ball, num_steps=40)
    found, _ = run(attack, two_classes(WEIGHTS), images, labels)
    room = epsilon * dual - np.abs(score)
    clear = np.abs(room) > 0.01 * np.median(np.abs(score))
    np.testing.assert_array_equal(found.success[clear], room[clear] > 0)
    assert 10 < found.success.sum() < 50
    moved = (np.float64(found.images) - np.float64(images)).reshape(60, -1)
    length = np.abs(moved).max(1) if norm_ball == "linf" else np.sqrt(np.square(moved).sum(1))
    assert length.max() <= epsilon + 1e-6


def test_pgd_without_a_random_start_takes_the_given_steps(pictures):
    labels = np.int32(np.sum((pictures - 0.5) * WEIGHTS, axis=(1, 2, 3)) > 0)
    weak = two_classes(1e-3 * WEIGHTS)
    images = np.float32(0.25 + pictures / 2)
    labels = np.int32(np.sum((images - 0.5) * WEIGHTS, axis=(1, 2, 3)) > 0)
    attack = PGD(epsilon=0.2, num_steps=3, step_size=1e-4, random_start=False)
    found, model = run(attack, weak, images, labels)
    away = np.where(labels == 1, -1.0, 1.0)[:, None, None, None]
    kept = ~found.success
    expected = images + 3e-4 * away * np.sign(WEIGHTS)
    np.testing.assert_allclose(found.images[kept], expected[kept], atol=1e-6)
    assert kept.sum() > 15
    # k gradient passes and one forward pass for each surviving image.
    assert 4 * kept.sum() <= model.queries <= 4 * len(images)


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("restarts", [1, 3])
def test_pgd_costs_steps_and_a_forward_pass_a_restart(steps, restarts, pictures):
    attack = PGD(epsilon=0.01, num_steps=steps, restarts=restarts)
    _, model = run(
        attack, lambda x: tf.reshape(x, [-1, 64])[:, :3] * 0 + [1.0, 0, 0], pictures,
        np.zeros(24, np.int32),
    )  # fmt: skip
    assert model.queries == 24 * (steps + 1) * restarts


def test_restarts_never_lower_success(classifier, pictures, predicted):
    fooled = [
        run(
            PGD(epsilon=0.2, num_steps=1, step_size=0.01, restarts=k),
            classifier, pictures, predicted,
        )[0].success
        for k in (1, 2, 12)
    ]  # fmt: skip
    assert np.all(fooled[0] <= fooled[1])
    assert np.all(fooled[1] <= fooled[2])
    assert fooled[0].sum() < fooled[2].sum()


def test_identical_restarts_are_refused():
    with pytest.raises(InvalidSettings, match="restarts"):
        PGD(epsilon=0.1, restarts=2, random_start=False)


def test_pgd_random_starts_differ_by_image_and_seed(pictures):
    def flat(images):
        return 0.0 * tf.reshape(images, [-1, 64])[:, :2]

    same = np.repeat(np.full((1, 8, 8, 1), 0.5, np.float32), 4, axis=0)
    attack, labels = PGD(epsilon=0.2, num_steps=1), np.zeros(4, np.int32)
    found, _ = run(attack, flat, same, labels)
    other, _ = run(attack, flat, same, labels, seed=[3, 6])
    for i in range(4):
        assert np.abs(found.images[i] - other.images[i]).max() > 0.01
        for j in range(i):
            assert np.abs(found.images[i] - found.images[j]).max() > 0.01


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
def test_mi_fgsm_equals_the_paper_in_numpy(gray, norm, steps, targeted):
    generator = np.random.default_rng(2)
    # Class 0 leads by too much for any success; 1 and 2 alternate as second.
    weights, bias = 3 * generator.normal(size=(16, 3)), np.array([10.0, 0, 0])
    weights[:, 0] = 0
    settings = (0.08, steps, 0.9, norm)
    attack = MIFGSM(epsilon=0.08, num_steps=steps, decay=0.9, norm_ball=norm)
    targets = np.int32([1, 2] * 6) if targeted else None
    found, model = run(attack, affine(weights, bias), gray, np.zeros(12), targets)
    assert not found.success.any()
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


@pytest.mark.parametrize(("decay", "third"), [(0, 0.5), (0.5, 0.5), (2, 0.6)])
def test_momentum_continues_where_the_gradient_changes_sign(decay, third):
    """At 0.55, past the ridge, g is (decay - 1)/1.01 in pixel 0."""
    model = RecordingModel(zigzag)
    image = np.full((1, 4, 4, 1), 0.5, np.float32)
    attack = MIFGSM(epsilon=0.2, num_steps=3, step_size=0.05, decay=decay)
    attack.run(model, image, Criterion(np.int32([0])), SEED)
    asked = np.array([images[0, 0, :2, 0] for images in model.queried])
    np.testing.assert_allclose(asked, [[0.5, 0.5], [0.55, 0.55], [third, 0.6]], atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_without_momentum_mi_fgsm_is_gradient_ascent(gray, norm):
    weights = np.random.default_rng(3).normal(size=(16, 3))
    labels = np.argmax(affine(weights, np.zeros(3))(gray), axis=1)
    epsilon = {"linf": 0.015, "l2": 0.05}[norm]
    settings = {"epsilon": epsilon, "norm_ball": norm, "num_steps": 5}
    one, _ = run(MIFGSM(**settings, decay=0), affine(weights, np.zeros(3)), gray, labels)
    plain = PGD(**settings, step_size=epsilon / 5, random_start=False)
    other, _ = run(plain, affine(weights, np.zeros(3)), gray, labels)
    np.testing.assert_array_equal(one.images, other.images)
    assert 0 < one.success.sum() < 12


def test_momentum_of_a_flat_model_is_zero(gray):
    found, _ = run(MIFGSM(epsilon=0.1), affine(np.zeros((16, 3)), [1, 0, 0]), gray, np.zeros(12))
    np.testing.assert_array_equal(found.images, gray)


def test_a_success_costs_no_more_passes(gray):
    weights = np.zeros((16, 2))
    weights[:, 1] = 1
    # Class 1 from a mean of 0.5 on: reached after 1 of 4 steps, or already.
    images = np.stack([np.full((4, 4, 1), value, np.float32) for value in (0.48, 0.7)])
    attack = MIFGSM(epsilon=0.1, num_steps=4)
    found, model = run(attack, affine(weights, [0, 0]), images, [0, 0])
    assert found.success.all()
    assert model.queries == 2 + 1
    np.testing.assert_allclose(found.images[0], 0.505, atol=1e-6)
    np.testing.assert_array_equal(found.images[1], images[1])


def test_settings_out_of_range_are_refused():
    for wrong in ({"decay": -0.1}, {"num_steps": 0}, {"norm_ball": "l1"}, {"epsilon": 2}):
        with pytest.raises(InvalidSettings):
            _ = MIFGSM(**{"epsilon": 0.1, **wrong}).neighborhood


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
def test_a_targeted_attack_raises_the_target_and_lowers_its_rival(attack, target, gray, halves):
    """The corner x + ε·(sign w_t - sign w_other) of the ball has the smallest CE(f(x), t)."""
    found, _ = run(attack, affine(halves, [3.0, 0, 0]), gray, np.zeros(12), [target] * 12)
    signs = np.sign(halves)
    corner = 0.1 * (signs[:, target] - signs[:, 3 - target])
    assert not found.success.any()
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
def test_targets_are_reached_exactly_where_the_bound_allows(attack, dual, room, gray, halves):
    """f_2 must gain the lead of class 0; class 1 leads nowhere."""
    logits = affine(halves, [1.5, -20, 0])(gray).numpy()
    gap = logits[:, 0] - logits[:, 2]
    assert (gap > 0.1).all()
    epsilon = float(room * np.median(gap) / dual(halves[:, 2]))
    found, _ = run(attack(epsilon=epsilon), affine(halves, [1.5, -20, 0]), gray, [0] * 12, [2] * 12)
    expected = gap < epsilon * dual(halves[:, 2])
    assert 3 <= expected.sum() <= 9
    clear = np.abs(gap - epsilon * dual(halves[:, 2])) > 1e-3
    np.testing.assert_array_equal(found.success[clear], expected[clear])


def test_l2_targets_are_reached_exactly_where_the_bound_allows(gray, halves):
    logits = affine(halves, [1.5, -20, 0])(gray).numpy()
    gap, length = logits[:, 0] - logits[:, 2], np.sqrt(np.square(halves[:, 2]).sum())
    epsilon = float(np.median(gap) / length)
    for attack in (PGD, MIFGSM):
        found, _ = run(
            attack(epsilon=epsilon, norm_ball="l2"),
            affine(halves, [1.5, -20, 0]), gray, [0] * 12, [2] * 12,
        )  # fmt: skip
        clear = np.abs(gap - epsilon * length) > 0.02
        np.testing.assert_array_equal(found.success[clear], gap[clear] < epsilon * length)
        assert found.success[clear].any()
        assert not found.success[clear].all()


def test_another_wrong_class_is_no_targeted_success(gray, halves):
    """Class 1 is predicted all along; only class 2 counts."""
    classifier = affine(halves, [0.0, 20, 0])
    for attack in (FGSM(epsilon=0.1), PGD(epsilon=0.1), MIFGSM(epsilon=0.1)):
        untargeted, _ = run(attack, classifier, gray, np.zeros(12))
        targeted, _ = run(attack, classifier, gray, np.zeros(12), [2] * 12)
        assert untargeted.success.all()
        assert not targeted.success.any()


def test_infinite_gradients_are_masked(gray):
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
        verdict = outcome.outcomes[attack.name]
        assert np.isfinite(verdict.images).all()
        assert (verdict.classes == 1).all()


@pytest.mark.parametrize("attack", [FGSM(epsilon=0.1), PGD(epsilon=0.1), MIFGSM(epsilon=0.1)])
def test_infinite_logits_leave_images_in_the_threat_model(attack, gray):
    """The logit of class 1 overflows for half of the images; that of class 0 doesn't."""

    def overflowing(images):
        level = tf.reduce_mean(images, axis=[1, 2, 3])
        large = tf.cast(tf.range(tf.shape(level)[0]) % 2, tf.float32)
        score = level * tf.where(large > 0, np.float32(3e38), 1.0) * 10
        return tf.stack([tf.zeros_like(score), score], axis=1)

    outcome = evaluate_robustness(overflowing, gray, np.zeros(12, int), [attack])
    moved = outcome.outcomes[attack.name].images
    assert np.isfinite(moved).all()
    assert np.abs(moved - gray).max() <= 0.1 + 1e-6
    assert any("infinite" in warning for warning in outcome.warnings)


@pytest.mark.parametrize("attack", [FGSM(epsilon=0.1), PGD(epsilon=0.1), MIFGSM(epsilon=0.1)])
def test_nan_logits_are_never_correct(attack, gray):
    nowhere = lambda x: tf.reshape(x, [-1, 16])[:, :3] * np.nan  # noqa: E731
    outcome = evaluate_robustness(nowhere, gray, np.zeros(12, int), [attack])
    assert not outcome.correct.any()
    assert not outcome.surviving(attack.name).any()
    assert np.isfinite(outcome.outcomes[attack.name].images).all()
