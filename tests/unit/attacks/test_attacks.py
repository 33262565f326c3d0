"""Attacks for evaluation: one common suite for all, and what each does beside it."""

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.attacks import (
    ATTACKS,
    FGSM,
    PGD,
    Attack,
    AttackResult,
    Criterion,
    GridAdv,
    GridAdvPlus,
    PGDPlus,
    RandAdv,
    TargetModel,
)
from keras_srt.core.errors import InvalidSettings
from keras_srt.evaluation.runner import check_inside, evaluate_robustness

SEED = [3, 5]
EPSILON = 0.1
SMALL_GRID = {"grid": (3, 3, 5), "max_rotation": 20.0, "max_translation": 2.0}

# One row for each attack: settings that make it quick, and those that leave it no room.
COMMON = {
    "fgsm": ({"epsilon": EPSILON}, {"epsilon": 0}),
    "pgd": ({"epsilon": EPSILON, "num_steps": 5, "restarts": 2}, {"epsilon": 0, "num_steps": 2}),
    "mi_fgsm": ({"epsilon": EPSILON, "num_steps": 5}, {"epsilon": 0, "num_steps": 2}),
    "cw": (
        {"epsilon": 1.0, "iterations": 30, "searches": 3, "learning_rate": 0.05},
        {"epsilon": 0, "iterations": 3, "searches": 1},
    ),
    "ddn": ({"epsilon": 1.0, "num_steps": 15}, {"epsilon": 0, "num_steps": 3}),
    "jsma": ({"epsilon": 8}, {"epsilon": 0, "gamma": 0.1}),
    "pointwise": (
        {"epsilon": 6, "restarts": 1, "noise_draws": 9, "bisections": 2},
        {"epsilon": 0, "restarts": 1, "noise_draws": 1, "bisections": 0},
    ),
    "randadv": ({}, {"max_rotation": 0, "max_translation": 0}),
    "randadv_r": ({}, {"max_rotation": 0}),
    "randadv_t": ({}, {"max_translation": 0}),
    "gridadv": (SMALL_GRID, {**SMALL_GRID, "max_rotation": 0, "max_translation": 0}),
    "gridadv_r": ({"points": 7}, {"points": 3, "max_rotation": 0}),
    "gridadv_t": ({"points": 3}, {"points": 3, "max_translation": 0}),
    "pgd_plus": (
        {"epsilon": EPSILON, "num_steps": 3, **SMALL_GRID},
        {"epsilon": 0, "num_steps": 2, **SMALL_GRID, "max_rotation": 0, "max_translation": 0},
    ),
    "gridadv_plus": (
        {"epsilon": EPSILON, "num_steps": 3, **SMALL_GRID},
        {"epsilon": 0, "num_steps": 2, **SMALL_GRID, "max_rotation": 0, "max_translation": 0},
    ),
    "color": (
        {"max_contrast": 0.2, "max_brightness": 0.07, "num_samples": 3, "num_steps": 3},
        {"max_contrast": 0, "max_brightness": 0, "num_samples": 2, "num_steps": 2},
    ),
    "apgd_ce": ({"epsilon": EPSILON, "num_steps": 8}, {"epsilon": 0, "num_steps": 2}),
    "apgd_dlr": ({"epsilon": EPSILON, "num_steps": 8}, {"epsilon": 0, "num_steps": 2}),
    "apgd_t": ({"epsilon": EPSILON, "num_steps": 8}, {"epsilon": 0, "num_steps": 2}),
    "fab_t": ({"epsilon": EPSILON, "num_steps": 8}, {"epsilon": 0, "num_steps": 2}),
    "square": ({"epsilon": EPSILON, "queries": 60}, {"epsilon": 0, "queries": 3}),
    "autoattack": (
        {"epsilon": EPSILON, "num_steps": 5, "queries": 20},
        {"epsilon": 0, "num_steps": 2, "queries": 3},
    ),
}

# What each attack's threat model is called; the radius is the `epsilon` of its settings.
THREAT_MODELS = {
    "pgd_plus": "linf+spatial",
    "gridadv_plus": "spatial+linf",
    "color": "color",
    **dict.fromkeys(["cw", "ddn"], "l2"),
    **dict.fromkeys(["jsma", "pointwise"], "l0"),
    **dict.fromkeys(["randadv", "randadv_r", "randadv_t"], "spatial"),
    **dict.fromkeys(["gridadv", "gridadv_r", "gridadv_t"], "spatial"),
    **dict.fromkeys(["fgsm", "pgd", "mi_fgsm"], "linf"),
    **dict.fromkeys(["apgd_ce", "apgd_dlr", "apgd_t"], "linf"),
    **dict.fromkeys(["fab_t", "square", "autoattack"], "linf"),
}
NORMS = {
    "linf": lambda r: np.abs(r).max(axis=(1, 2, 3)),
    "l2": lambda r: np.sqrt((r**2).sum(axis=(1, 2, 3))),
    "l0": lambda r: (r != 0).sum(axis=(1, 2, 3)),
}


def test_every_attack_of_the_registry_is_in_the_common_suite():
    assert set(COMMON) == set(ATTACKS)
    for name in ATTACKS:
        assert ATTACKS.build({"name": name, **COMMON[name][0]}).name == name


@pytest.fixture(scope="module")
def pictures():
    """24 smooth images of 8×8 pixels; some values are exactly 0 and exactly 1."""
    coarse = np.random.default_rng(5).uniform(-0.3, 1.3, (24, 2, 2, 1))
    return np.clip(tf.image.resize(coarse, (8, 8)), 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def classifier():
    """A curved, smooth function: some pictures are close to leaving their class, some far."""
    generator = np.random.default_rng(6)
    smooth = tf.image.resize(0.3 * generator.normal(size=(16, 2, 2, 1)), (8, 8))
    first = tf.transpose(tf.reshape(smooth, [16, 64]))
    second = tf.constant(generator.normal(size=(16, 3)), tf.float32)

    def logits(images):
        flat = tf.reshape(images, [-1, 64]) - 0.5
        return tf.tanh(flat @ first) @ second

    return logits


@pytest.fixture(scope="module")
def answered(classifier, pictures):
    """The classifier's own answers to the pictures."""
    return np.int32(np.argmax(classifier(pictures), axis=1))


@pytest.fixture(params=sorted(COMMON))
def name(request):
    return request.param


def run(attack, classifier, images, labels, seed=SEED, batch_size=500, targets=None):
    """Runs an attack and returns what it found and the target_model, which counts queries."""
    target_model = TargetModel(classifier, batch_size)
    return attack.run(
        target_model, images, Criterion(labels, targets), tf.constant(seed)
    ), target_model


def flatten(parameters):
    return tf.nest.flatten(parameters)


# The common suite: every attack passes it.


def assert_in_threat_model(attack, pictures, found):
    """In float64, by the neighborhood's own measure and by norms written out here."""
    assert found.images.shape == pictures.shape
    assert found.images.dtype == np.float32
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    check_inside(attack, pictures, found)
    stages = attack.neighborhood.stages_in_order
    if len(stages) == 1 and stages[0].kind == "pixel":
        each = [np.float64(found.images) - np.float64(pictures)]
    else:
        each = found.parameters if len(stages) > 1 else [found.parameters]
    for stage, its_own in zip(stages, map(np.float64, each), strict=True):
        assert stage.relative_size(its_own).max() <= 1 + 1e-6
        if stage.kind == "pixel":
            assert NORMS[stage.name](its_own).max() <= stage.epsilon + 2e-6
        else:
            assert np.all(np.abs(its_own) <= np.float64(stage.limits) + 1e-6)


def test_result_is_in_the_threat_model(name, classifier, pictures, answered):
    attack = ATTACKS.build({"name": name, **COMMON[name][0]})
    found, _ = run(attack, classifier, pictures, answered)
    assert_in_threat_model(attack, pictures, found)


def another_class(answered):
    """A target for each picture, which is not its own class."""
    return np.int32((answered + 1 + np.arange(len(answered)) % 2) % 3)


def test_a_targeted_attack_reaches_its_target_or_says_that_it_did_not(
    name, classifier, pictures, answered
):
    attack, targets = ATTACKS.build({"name": name, **COMMON[name][0]}), another_class(answered)
    found, _ = run(attack, classifier, pictures, answered, targets=targets)
    now = np.argmax(classifier(found.images), axis=1)
    np.testing.assert_array_equal(found.fooled, now == targets)
    assert 0 < found.fooled.sum() < len(pictures)  # else this shows nothing


def test_a_targeted_result_is_in_the_threat_model(name, classifier, pictures, answered):
    attack = ATTACKS.build({"name": name, **COMMON[name][0]})
    found, _ = run(attack, classifier, pictures, answered, targets=another_class(answered))
    assert_in_threat_model(attack, pictures, found)


def test_a_target_that_is_the_answer_already_is_left_almost_untouched(
    name, classifier, pictures, answered
):
    attack = ATTACKS.build({"name": name, **COMMON[name][0]})
    labels = np.int32((answered + 1) % 3)
    found, _ = run(attack, classifier, pictures, labels, targets=answered)
    assert found.fooled.all()
    np.testing.assert_array_equal(np.argmax(classifier(found.images), axis=1), answered)


def test_parameters_make_the_images(name, classifier, pictures, answered):
    attack = ATTACKS.build({"name": name, **COMMON[name][0]})
    found, _ = run(attack, classifier, pictures, answered)
    again = attack.neighborhood.apply(tf.constant(pictures), found.parameters)
    np.testing.assert_allclose(found.images, again, atol=1e-6)


def test_fooled_is_what_the_model_answers(name, classifier, pictures, answered):
    attack = ATTACKS.build({"name": name, **COMMON[name][0]})
    found, _ = run(attack, classifier, pictures, answered)
    now = np.argmax(classifier(found.images), axis=1)
    np.testing.assert_array_equal(found.fooled, now != answered)
    assert 0 < found.fooled.sum() < len(pictures)  # else this shows nothing


def test_no_room_changes_nothing_and_fools_nobody(name, classifier, pictures, answered):
    attack = ATTACKS.build({"name": name, **COMMON[name][1]})
    found, _ = run(attack, classifier, pictures, answered)
    np.testing.assert_allclose(found.images, pictures, atol=1e-6)
    assert not found.fooled.any()


def test_the_same_seed_gives_the_same_result(name, classifier, pictures, answered):
    attack = ATTACKS.build({"name": name, **COMMON[name][0]})
    one, _ = run(attack, classifier, pictures, answered)
    other, _ = run(attack, classifier, pictures, answered)
    np.testing.assert_array_equal(one.images, other.images)
    for mine, its in zip(flatten(one.parameters), flatten(other.parameters), strict=True):
        np.testing.assert_array_equal(mine, its)


SEARCHES = ["randadv", "randadv_r", "randadv_t", "gridadv", "gridadv_r", "gridadv_t"]


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_never_lowers_the_loss(name, classifier, pictures, answered):
    attack = ATTACKS.build({"name": name, **COMMON[name][0]})
    found, _ = run(attack, classifier, pictures, answered)
    target_model = TargetModel(classifier)
    before, after = (
        target_model.answers(x, Criterion(answered)).loss for x in (pictures, found.images)
    )
    # Where one fools, it is taken even at a lower loss than the image itself.
    assert np.all((after >= before - 1e-5) | found.fooled)


def test_what_fools_already_is_left_almost_untouched(name, classifier, pictures, answered):
    attack = ATTACKS.build({"name": name, **COMMON[name][0]})
    wrong = (answered + 1) % 3
    found, _ = run(attack, classifier, pictures, wrong)
    still = np.argmax(classifier(found.images), axis=1) != wrong
    assert found.fooled.all()
    assert still.all()
    if name in ("fgsm",) or "adv" in name:
        np.testing.assert_allclose(found.images, pictures, atol=1e-6)


@pytest.mark.parametrize("count", [0, 1])
def test_one_image_or_none(name, count, classifier, pictures, answered):
    attack = ATTACKS.build({"name": name, **COMMON[name][0]})
    found, _ = run(attack, classifier, pictures[:count], answered[:count])
    assert found.images.shape == (count, 8, 8, 1)
    assert found.fooled.shape == (count,)


@pytest.mark.parametrize("name", ["fgsm", "gridadv", "gridadv_r", "gridadv_t"])
def test_each_image_has_its_own_verdict(name, classifier, pictures, answered):
    """Who else is in the batch, and how large queries are, matters to none without draws."""
    attack = ATTACKS.build({"name": name, **COMMON[name][0]})
    whole, _ = run(attack, classifier, pictures, answered)
    parts = [
        run(attack, classifier, pictures[i : i + 5], answered[i : i + 5], batch_size=7)[0].fooled
        for i in range(0, len(pictures), 5)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole.fooled)


def test_a_description_names_norm_and_radius(name):
    settings, _ = COMMON[name]
    attack = ATTACKS.build({"name": name, **settings})
    assert (attack.norm, attack.radius) == (THREAT_MODELS[name], settings.get("epsilon"))


# A linear model: everything is known in closed form.


def two_classes(weights):
    """f(x) = (0, w·x + b), so that class 1 is answered where w·x + b > 0."""
    weights = tf.constant(weights, tf.float32)

    def logits(images):
        score = tf.reduce_sum((images - 0.5) * weights, axis=[1, 2, 3])
        return tf.stack([tf.zeros_like(score), score], axis=1)

    return logits


WEIGHTS = np.random.default_rng(7).normal(size=(8, 8, 1))


def test_fgsm_is_the_closed_form(pictures):
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
def test_pgd_fools_exactly_whom_a_linear_bound_says(norm_ball):
    """Inside [0, 1] the largest change of w·δ is ε·‖w‖₁ in L∞ and ε·‖w‖₂ in L2."""
    generator = np.random.default_rng(8)
    images = np.float32(generator.uniform(0.4, 0.6, (60, 8, 8, 1)))
    score = np.sum((np.float64(images) - 0.5) * WEIGHTS, axis=(1, 2, 3))
    labels = np.int32(score > 0)
    dual = np.abs(WEIGHTS).sum() if norm_ball == "linf" else np.sqrt(np.square(WEIGHTS).sum())
    epsilon = float(np.median(np.abs(score)) / dual)  # fools about half of them
    assert epsilon < 0.4
    attack = PGD(epsilon=epsilon, norm_ball=norm_ball, num_steps=40)
    found, _ = run(attack, two_classes(WEIGHTS), images, labels)
    room = epsilon * dual - np.abs(score)
    clear = np.abs(room) > 0.01 * np.median(np.abs(score))
    np.testing.assert_array_equal(found.fooled[clear], room[clear] > 0)
    assert 10 < found.fooled.sum() < 50
    moved = (np.float64(found.images) - np.float64(images)).reshape(60, -1)
    length = np.abs(moved).max(1) if norm_ball == "linf" else np.sqrt(np.square(moved).sum(1))
    assert length.max() <= epsilon + 1e-6


def test_pgd_without_a_start_takes_the_steps_it_is_told(pictures):
    labels = np.int32(np.sum((pictures - 0.5) * WEIGHTS, axis=(1, 2, 3)) > 0)
    weak = two_classes(1e-3 * WEIGHTS)
    images = np.float32(0.25 + pictures / 2)
    labels = np.int32(np.sum((images - 0.5) * WEIGHTS, axis=(1, 2, 3)) > 0)
    attack = PGD(epsilon=0.2, num_steps=3, step_size=1e-4, random_start=False)
    found, target_model = run(attack, weak, images, labels)
    away = np.where(labels == 1, -1.0, 1.0)[:, None, None, None]
    kept = ~found.fooled
    expected = images + 3e-4 * away * np.sign(WEIGHTS)
    np.testing.assert_allclose(found.images[kept], expected[kept], atol=1e-6)
    assert kept.sum() > 15
    # k gradient passes and one forward pass for each image that stays right.
    assert 4 * kept.sum() <= target_model.queries <= 4 * len(images)


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("restarts", [1, 3])
def test_pgd_costs_steps_and_a_forward_pass_a_restart(steps, restarts, pictures):
    attack = PGD(epsilon=0.01, num_steps=steps, restarts=restarts)
    _, target_model = run(
        attack, lambda x: tf.reshape(x, [-1, 64])[:, :3] * 0 + [1.0, 0, 0], pictures,
        np.zeros(24, np.int32),
    )  # fmt: skip
    assert target_model.queries == 24 * (steps + 1) * restarts


def test_restarts_never_lower_success(classifier, pictures, answered):
    fooled = [
        run(
            PGD(epsilon=0.2, num_steps=1, step_size=0.01, restarts=k),
            classifier, pictures, answered,
        )[0].fooled
        for k in (1, 2, 12)
    ]  # fmt: skip
    assert np.all(fooled[0] <= fooled[1])
    assert np.all(fooled[1] <= fooled[2])
    assert fooled[0].sum() < fooled[2].sum()


def test_restarts_are_refused_where_they_would_be_the_same():
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


# Searches.


def exhaustive(attack, classifier, images, labels):
    """Whether any transform of the grid fools, tried one by one on every image."""
    fooled = np.zeros(len(images), bool)
    for point in attack.neighborhood.grid_points():
        points = tf.constant(np.tile(point, (len(images), 1)))
        moved = attack.neighborhood.apply(tf.constant(images), points)
        fooled |= np.argmax(classifier(moved), axis=1) != labels
    return fooled


@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_gridadv_gives_the_verdict_of_an_exhaustive_search(
    classifier, pictures, answered, batch_size
):
    attack = GridAdv(grid=(3, 3, 7), max_rotation=8, max_translation=0.6)
    expected = exhaustive(attack, classifier, pictures, answered)
    assert 3 < expected.sum() < 21
    found, target_model = run(attack, classifier, pictures, answered, batch_size=batch_size)
    np.testing.assert_array_equal(found.fooled, expected)
    # One clean pass, every transform for those that hold, fewer for those that fall.
    held = (~expected).sum()
    assert held * 63 + 24 <= target_model.queries < 24 * 64


def test_gridadv_finds_the_only_transform_that_fools():
    """A model that looks for a bright pixel where just one shift brings it."""
    image = np.zeros((1, 9, 9, 1), np.float32)
    image[0, 4, 4, 0] = 1.0

    def logits(images):
        there = images[:, 6, 2, 0]  # two pixels down, two to the left
        return tf.stack([0.5 * tf.ones_like(there), there], axis=1)

    attack = GridAdv(grid=(5, 5, 3), max_translation=2, max_rotation=0)
    found, _ = run(attack, logits, image, np.int32([0]))
    assert found.fooled.all()
    np.testing.assert_allclose(found.parameters, [[0, -2, 2]], atol=1e-6)
    smaller = GridAdv(grid=(5, 5, 3), max_translation=1, max_rotation=0)
    assert not run(smaller, logits, image, np.int32([0]))[0].fooled.any()


def test_where_nothing_fools_the_transform_of_the_highest_loss_is_kept():
    image = np.zeros((1, 9, 9, 1), np.float32)
    image[0, 4, 4, 0] = 1.0

    def logits(images):
        return tf.stack([2.0 * tf.ones_like(images[:, 0, 0, 0]), images[:, 4, 6, 0]], axis=1)

    attack = GridAdv(grid=(5, 5, 1), max_translation=2, max_rotation=0)
    found, target_model = run(attack, logits, image, np.int32([0]))
    assert not found.fooled.any()
    np.testing.assert_allclose(found.parameters, [[0, 2, 0]], atol=1e-6)
    assert target_model.queries == 1 + 25


def test_randadv_draws_for_each_image_its_own():
    same = np.repeat(np.random.default_rng(9).random((1, 8, 8, 1), np.float32), 6, axis=0)
    brightness = lambda x: tf.stack(  # noqa: E731
        [5.0 + 0 * x[:, 0, 0, 0], tf.reduce_mean(x, [1, 2, 3])], axis=1
    )
    # Nothing fools; the rest differ in the loss only through the draws.
    found, _ = run(RandAdv(num_samples=3), brightness, 1 - same / 2, np.ones(6, np.int32) * 0)
    draws = RandAdv(num_samples=3).candidates(np.zeros((6, 8, 8, 1)), tf.constant(SEED))
    draws = np.asarray(draws)
    assert draws.shape == (3, 6, 3)
    assert len(np.unique(draws[..., 0])) == 18
    assert np.abs(draws[..., 0]).max() <= 30
    assert np.abs(draws[..., 1:]).max() <= 3
    for image in range(6):
        mine = found.parameters[image]
        assert not mine.any() or any(np.allclose(mine, draw) for draw in draws[:, image])


def test_more_draws_never_lower_success(classifier, pictures, answered):
    fooled = [
        run(
            RandAdv(num_samples=k, max_rotation=5, max_translation=0.5),
            classifier, pictures, answered,
        )[0].fooled
        for k in (1, 3, 12)
    ]  # fmt: skip
    assert np.all(fooled[0] <= fooled[1])
    assert np.all(fooled[1] <= fooled[2])
    assert fooled[0].sum() < fooled[2].sum()


# Composite attacks.


def test_composites_keep_their_order(classifier, pictures, answered):
    settings = {"epsilon": 0.05, "num_steps": 2, **SMALL_GRID}
    for attack, kinds in (
        (PGDPlus(**settings), ["pixel", "spatial"]),
        (GridAdvPlus(**settings), ["spatial", "pixel"]),
    ):
        assert [stage.kind for stage in attack.neighborhood.stages_in_order] == kinds
        found, _ = run(attack, classifier, pictures, answered)
        widths = {"pixel": pictures.shape, "spatial": (24, 3)}
        assert [np.shape(own) for own in found.parameters] == [widths[kind] for kind in kinds]


def test_the_second_stage_leaves_alone_whom_the_first_has_fooled(classifier, pictures, answered):
    pixel = PGD(epsilon=EPSILON, num_steps=3)
    both = PGDPlus(epsilon=EPSILON, num_steps=3, **SMALL_GRID)
    found, _ = run(both, classifier, pictures, answered)
    first = found.parameters[0].reshape(24, -1)
    alone = np.argmax(classifier(pictures + found.parameters[0]), axis=1) != answered
    assert 0 < alone.sum() < 24
    assert not found.parameters[1][alone].any()
    assert found.fooled[alone].all()
    assert found.fooled.sum() > alone.sum()
    assert np.abs(first).max() <= EPSILON + 1e-6
    assert pixel.epsilon == both.stages[0].epsilon


def test_a_composite_where_the_first_stage_fools_all(classifier, pictures, answered):
    wrong = (answered + 1) % 3
    for attack in (
        PGDPlus(epsilon=0.0, num_steps=1, **SMALL_GRID),
        GridAdvPlus(epsilon=0.0, num_steps=1, **SMALL_GRID),
    ):
        found, _ = run(attack, classifier, pictures, wrong)
        np.testing.assert_array_equal(found.images, pictures)
        assert found.fooled.all()


def test_an_empty_second_stage_is_no_problem_for_a_model_with_batch_norm(make_classifier, images):
    """TensorFlow's fused convolution and BatchNorm can't take an empty batch."""
    classifier = make_classifier(batch_norm=True, activation="relu")
    wrong = np.int32(np.argmin(classifier(images, training=False), axis=1))
    attack = GridAdvPlus(epsilon=0.0, num_steps=1, **SMALL_GRID)
    found, _ = run(attack, classifier, images, wrong)
    assert found.fooled.all()


# Names, and the check from outside.


def test_a_strength_in_the_name():
    assert ATTACKS.build({"name": "pgd@0.1"}) == PGD(epsilon=0.1)
    assert ATTACKS.build({"name": "pgd@8/255", "num_steps": 3}) == PGD(epsilon=8 / 255, num_steps=3)
    assert ATTACKS.build({"name": "pgd@0.1", "epsilon": 0.3}).epsilon == 0.3
    for name in ("pgd@", "pgd@x", "pgd@-1", "pgd@nan", "fgsm@2", "gridadv@0.1", "pdg@0.1", "@"):
        with pytest.raises(InvalidSettings):
            ATTACKS.build({"name": name})


class Cheating(Attack):
    """Says what `cheat` makes of an honest result."""

    name = "cheating"
    epsilon = EPSILON
    neighborhood = FGSM(epsilon=EPSILON).neighborhood

    def __init__(self, cheat):
        super().__init__()
        object.__setattr__(self, "cheat", cheat)

    def run(self, target_model, images, criterion, seed):
        honest = FGSM(epsilon=EPSILON).run(target_model, images, criterion, seed)
        return AttackResult(*self.cheat(images, honest)[:3])


@pytest.mark.parametrize(
    "cheat",
    [
        lambda x, f: (np.clip(x + 0.2, 0, 1), np.clip(x + 0.2, 0, 1) - x, f.fooled),
        lambda x, f: (1 - x, f.parameters, f.fooled),
        lambda x, f: (f.images, f.parameters * 2, f.fooled),
        lambda x, f: (x + 0.09, np.full_like(x, 0.09), f.fooled),
        lambda x, f: (x * np.nan, f.parameters, f.fooled),
        lambda x, f: (f.images, f.parameters * np.nan, f.fooled),
    ],
    ids=["beyond", "another image", "other parameters", "above 1", "nan", "nan parameters"],
)
def test_an_attack_that_leaves_its_threat_model_is_found_out(classifier, pictures, answered, cheat):
    with pytest.raises(RuntimeError, match=r"cheating.*threat model"):
        evaluate_robustness(classifier, pictures, answered, [Cheating(cheat)])


def test_an_honest_attack_is_let_through(classifier, pictures, answered):
    honest = Cheating(lambda x, f: f)
    outcome = evaluate_robustness(classifier, pictures, answered, [honest])
    assert "cheating" in outcome.verdicts


# Queries, which are filled up to one of few sizes.


@pytest.mark.parametrize("count", [0, 1, 3, 17, 24])
def test_a_query_that_is_filled_up_answers_and_counts_its_own_images(
    count, classifier, pictures, answered
):
    target_model = TargetModel(classifier, batch_size=20)
    criterion = Criterion(answered[:count])
    answers, gradient = target_model.gradient(pictures[:count], criterion)
    np.testing.assert_array_equal(answers.classes, answered[:count])
    assert target_model.queries == count
    with tf.GradientTape() as tape:
        images = tf.Variable(pictures[:count])
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(criterion.labels, classifier(images))
    np.testing.assert_allclose(answers.loss, loss, rtol=1e-5)
    np.testing.assert_allclose(gradient, tape.gradient(loss, images), rtol=1e-4, atol=1e-6)


def test_queries_come_in_few_sizes(pictures):
    sizes = set()

    def logits(images):
        tf.numpy_function(lambda n: sizes.add(int(n)), [tf.shape(images)[0]], [])
        return tf.reduce_sum(images, axis=[1, 2])

    target_model = TargetModel(logits, batch_size=24)
    for count in range(1, 25):
        target_model.logits(pictures[:count])
    assert sizes == {1, 2, 4, 8, 16, 24}
