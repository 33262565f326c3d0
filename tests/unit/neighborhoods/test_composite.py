"""Composites: their stages in turn, and jointly."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.attacks import GridAdvPlus, PGDPlus, TargetModel, make_criterion
from keras_srt.attacks.criterion import Criterion
from keras_srt.core.errors import InvalidSettings
from keras_srt.evaluation.runner import check_inside
from keras_srt.neighborhoods import (
    L2,
    NEIGHBORHOODS,
    Color,
    Composite,
    LInf,
    Noise,
    Passes,
    Spatial,
)

SEED = (3, 4)
PIXEL = LInf(epsilon=0.1, num_steps=3)
TURN = Spatial(max_rotation=20, max_translation=1.5, num_samples=3)
GRID = Spatial(max_rotation=20, max_translation=1.5, search="grid", grid=(3, 1, 3))
COLOR = Color(num_steps=2)
NOISE = Noise(sigma=0.05, num_samples=2)


@pytest.fixture
def images():
    """Four smooth 8×8 images with three colors."""
    coarse = np.random.default_rng(1).uniform(-0.2, 1.2, (4, 3, 3, 3))
    return np.clip(tf.image.resize(coarse, (8, 8)), 0, 1).astype(np.float32)


@pytest.fixture
def loss_fn(images):
    """A smooth loss of each image, other for each pixel, as a classifier's would be."""
    weights = np.random.default_rng(5).normal(size=(*images.shape[1:], 3)).astype(np.float32)
    return lambda moved: tf.reduce_logsumexp(tf.tensordot(moved, weights, 3), axis=-1)


def flat(parameters):
    """All numbers of θ in one vector."""
    return np.concatenate([np.ravel(part) for part in tf.nest.flatten(parameters)])


# --- in turn -------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_composite_searches_each_stage_from_where_the_last_one_ended(order, images, loss_fn):
    # Searches without draws, so that they can be done by hand.
    stages = [(LInf(epsilon=0.1, num_steps=4, random_start=False), GRID)[i] for i in order]
    found = Composite(stages=stages).maximize(images, loss_fn, SEED)
    middle = stages[0].maximize(images, loss_fn, SEED)
    last = stages[1].maximize(middle.images, loss_fn, SEED)
    np.testing.assert_array_equal(found.images, last.images)
    np.testing.assert_array_equal(found.parameters[0], middle.parameters)
    np.testing.assert_array_equal(found.parameters[1], last.parameters)


def test_the_stages_of_a_composite_draw_differently(images):
    twice = Composite(stages=(TURN, TURN))
    found = twice.maximize(images, lambda x: tf.reduce_sum(x * 0 - 1.0, [1, 2, 3]) * 0, SEED)
    np.testing.assert_array_equal(flat(found.parameters), 0)
    found = twice.maximize(images, lambda x: tf.reduce_sum(tf.abs(x - images), [1, 2, 3]), SEED)
    first, second = found.parameters
    assert np.all(np.any(first.numpy() != second.numpy(), axis=1))


@pytest.mark.parametrize("stages", list(itertools.permutations([PIXEL, COLOR, TURN])))
def test_any_three_stages_in_any_order(stages, images, loss_fn):
    both = Composite(stages=stages)
    found = both.maximize(images, loss_fn, SEED)
    assert both.describe()["order"] == " -> ".join(stage.kind for stage in stages)
    moved = images
    for stage, its_own in zip(stages, found.parameters, strict=True):
        assert np.all(stage.relative_size(np.asarray(its_own)) <= 1 + 1e-5)
        moved = stage.apply(moved, its_own)
    np.testing.assert_allclose(found.images, moved, atol=1e-6)
    assert np.all(loss_fn(found.images) > loss_fn(images))


# --- jointly -------------------------------------------------------------------------

JOINT = {
    "pixel_spatial": (PIXEL, TURN),
    "spatial_pixel": (TURN, PIXEL),
    "spatial_l2": (GRID, L2(epsilon=0.5, num_steps=2)),
    "color_spatial": (COLOR, TURN),
    "drawn_color_pixel": (Color(search="random", num_samples=3), PIXEL),
    "noise_color": (NOISE, COLOR),
    "two_searches": (TURN, NOISE),
    "pixel_spatial_color": (PIXEL, TURN, COLOR),
    "plain_noise_spatial_pixel": (Noise(epsilon=0.05), TURN, PIXEL),
    "within": (Composite(stages=(PIXEL, COLOR)), TURN),
}


def jointly(name):
    return Composite(stages=JOINT[name], mode="joint")


@pytest.mark.parametrize("name", ["spatial_pixel", "noise_color"])
def test_joint_is_never_worse_than_in_turn_where_the_candidates_come_first(name, images, loss_fn):
    """What the search in turn finds is then one of the pairs that are compared."""
    for seed in ((1, 2), (3, 4), (5, 6)):
        joint = jointly(name).maximize(images, loss_fn, seed)
        in_turn = Composite(stages=JOINT[name]).maximize(images, loss_fn, seed)
        assert np.all(joint.loss >= loss_fn(in_turn.images) - 1e-5)


def test_joint_through_each_transform_finds_the_optimum_of_a_linear_loss(images):
    """max over θ of w·A(θ)x + ε·‖A(θ)ᵀw‖₁."""
    slope = np.random.default_rng(6).normal(size=images.shape).astype(np.float32)
    loss = lambda x: tf.reduce_sum(slope * x, [1, 2, 3])  # noqa: E731
    inner = tf.constant(0.4 + 0.2 * images)  # far enough from 0 and 1
    stages = (LInf(epsilon=0.1, num_steps=3), GRID)
    found = Composite(stages=stages, mode="joint").maximize(inner, loss, SEED)
    best = np.full(4, -np.inf)
    for point in GRID.grid_points():
        with tf.GradientTape() as tape:
            tape.watch(inner)
            value = loss(GRID.apply(inner, np.tile(point, (4, 1))))
        dual = np.abs(tape.gradient(value, inner)).sum(axis=(1, 2, 3))
        best = np.maximum(best, value.numpy() + 0.1 * dual)
    np.testing.assert_allclose(found.loss, best, rtol=1e-4)


@pytest.fixture
def brighter_elsewhere():
    """0.4 all over but 0.45 two pixels left of the middle, which is what the loss looks at.

    In turn, r brightens the middle to 0.5, and no shift helps. Through the shift
    by two pixels, r brightens what the shift brings, to 0.55.
    """
    image = np.full((1, 5, 5, 1), 0.4, np.float32)
    image[0, 2, 0] = 0.45
    return image


SHIFTS = {"grid": (3, 1, 1), "max_rotation": 0, "max_translation": 2}


def test_joint_finds_what_the_search_in_turn_can_not(brighter_elsewhere):
    stages = (
        LInf(epsilon=0.1, num_steps=3, random_start=False),
        Spatial(search="grid", **SHIFTS),
    )
    found = {
        mode: Composite(stages=stages, mode=mode).maximize(
            brighter_elsewhere, lambda x: x[:, 2, 2, 0], SEED
        )
        for mode in ("sequential", "joint")
    }
    np.testing.assert_allclose(found["sequential"].loss, [0.5], atol=1e-6)
    np.testing.assert_allclose(found["joint"].loss, [0.55], atol=1e-6)
    r, shift = found["joint"].parameters
    np.testing.assert_allclose(shift, [[0, 2, 0]])
    expected = np.zeros((1, 5, 5, 1))
    expected[0, 2, 0] = 0.1
    np.testing.assert_allclose(r, expected, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["pixel_spatial", "spatial_l2", "two_searches", "pixel_spatial_color", "within"]
)
def test_the_cost_is_what_passes_says(name, images, loss_fn):
    """Of eager calls and of the calls of a loop: those with a gradient and those without."""
    calls = {"forward": 0, "gradient": 0}

    @tf.custom_gradient
    def counted(moved):
        calls["forward"] += 1

        def slope(upstream):
            calls["gradient"] += 1
            with tf.GradientTape() as tape:
                tape.watch(moved)
                value = loss_fn(moved)
            return tape.gradient(value, moved, output_gradients=upstream)

        return loss_fn(moved), slope

    case = jointly(name)
    found = case.maximize(images, counted, SEED, start_loss=loss_fn(images))
    assert Passes(calls["forward"] - calls["gradient"], calls["gradient"]) == case.passes
    np.testing.assert_allclose(found.loss, loss_fn(found.images), rtol=1e-5)
    assert case.solver.passes(start_known=False).forward == case.passes.forward + 1


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        ("pixel_spatial", Passes(4, 12)),
        ("spatial_l2", Passes(10, 20)),
        ("color_spatial", Passes(4 * 2, 4 * 2)),
        ("two_searches", Passes(4 * 3, 0)),
        ("pixel_spatial_color", Passes(4 * 2, 4 * 5)),
    ],
)
def test_passes_of_joint_searches(name, passes):
    assert jointly(name).passes == passes


def test_a_nested_composite_asks_for_a_start_only_where_it_compares(images, loss_fn):
    nested = Composite(stages=(PIXEL, Composite(stages=(PIXEL, TURN))))
    asked = []
    nested.maximize(images, lambda x: asked.append(1) or loss_fn(x), SEED)
    assert len(asked) == sum(nested.passes) == 3 + 3 + 1 + 3


def test_the_range_and_the_order_are_those_of_the_search_in_turn():
    assert jointly("pixel_spatial").describe() == Composite(stages=(PIXEL, TURN)).describe()


@pytest.mark.parametrize("stages", [(PIXEL, COLOR), (PIXEL, Noise(epsilon=0.1))])
def test_without_candidates_there_is_nothing_to_search_jointly(stages):
    with pytest.raises(InvalidSettings, match=r"mode: got 'joint' with the stages linf.*spatial"):
        Composite(stages=stages, mode="joint")


def test_a_joint_composite_from_json():
    built = NEIGHBORHOODS.build(
        {
            "name": "composite",
            "mode": "joint",
            "stages": [
                {"name": "linf", "epsilon": "8/255"},
                {"name": "spatial"},
                {"name": "color", "max_hue": 20, "search": "random"},
                {"name": "noise", "sigma": 0.02},
            ],
        }
    )
    assert [stage.name for stage in built.stages] == ["linf", "spatial", "color", "noise"]
    with pytest.raises(InvalidSettings, match="mode: got 'both'"):
        NEIGHBORHOODS.build({"name": "composite", "mode": "both", "stages": [{}, {}]})


# --- the attacks ---------------------------------------------------------------------


@pytest.fixture
def classifier():
    """A curved, smooth function with three answers."""
    generator = np.random.default_rng(6)
    first = tf.constant(generator.normal(size=(192, 16)) * 0.1, tf.float32)
    second = tf.constant(generator.normal(size=(16, 3)), tf.float32)
    return lambda images: tf.tanh(tf.reshape(images - 0.5, [-1, 192]) @ first) @ second


@pytest.fixture
def pictures():
    """24 smooth 8×8 pictures."""
    coarse = np.random.default_rng(5).uniform(-0.3, 1.3, (24, 2, 2, 3))
    return np.clip(tf.image.resize(coarse, (8, 8)), 0, 1).astype(np.float32)


SETTINGS = {
    "epsilon": 0.02, "num_steps": 3, "grid": (3, 1, 3), "max_rotation": 10, "max_translation": 0.5,
}  # fmt: skip


@pytest.mark.parametrize(("attack", "target"), [(PGDPlus, None), (GridAdvPlus, "next")])
def test_a_joint_attack_fools_whom_the_one_in_turn_fools_and_more(
    attack, target, classifier, pictures
):
    logits = classifier(pictures).numpy()
    labels = np.int32(logits.argmax(axis=1))
    criterion = make_criterion(target, labels, logits, np.random.default_rng(0))
    found = {}
    for mode in ("sequential", "joint"):
        case = attack(**SETTINGS, mode=mode)
        found[mode] = case.run(TargetModel(classifier), pictures, criterion, tf.constant(SEED))
        check_inside(case, pictures, found[mode])
        now = np.argmax(classifier(found[mode].images), axis=1)
        np.testing.assert_array_equal(found[mode].success, criterion.is_adversarial(now))
    assert np.all(found["sequential"].success <= found["joint"].success)
    loss = [
        TargetModel(classifier).predictions(found[mode].images, criterion).loss for mode in found
    ]
    held = ~found["joint"].success
    assert np.all(loss[1][held] >= loss[0][held] - 1e-5)
    assert np.any(loss[1] > loss[0] + 1e-6)


def test_pgd_plus_finds_jointly_what_it_can_not_in_turn(brighter_elsewhere):
    def logits(x):
        return tf.stack([tf.fill([tf.shape(x)[0]], 0.54), x[:, 2, 2, 0]], axis=1)

    found = {
        mode: PGDPlus(epsilon=0.1, num_steps=5, **SHIFTS, mode=mode).run(
            TargetModel(logits), brighter_elsewhere, Criterion(np.int32([0])), tf.constant(SEED)
        )
        for mode in ("sequential", "joint")
    }
    assert not found["sequential"].success.any()
    assert found["joint"].success.all()
    np.testing.assert_allclose(found["joint"].parameters[1], [[0, 2, 0]])
    np.testing.assert_allclose(found["joint"].images[0, 2, 2], [0.55], atol=1e-6)


def test_a_joint_attack_costs_pgd_once_more_for_each_transform(pictures):
    sure = lambda x: tf.reshape(x, [-1, 192])[:, :3] * 0 + [1.0, 0, 0]  # noqa: E731
    target_model, criterion = TargetModel(sure), Criterion(np.zeros(24, np.int32))
    for attack in (PGDPlus, GridAdvPlus):
        target_model.queries = 0
        attack(**SETTINGS).run(target_model, pictures, criterion, tf.constant(SEED))
        in_turn = target_model.queries
        attack(**SETTINGS, mode="joint").run(target_model, pictures, criterion, tf.constant(SEED))
        # PGD's three steps and its last answer, and the answer to the pair, for 9 transforms.
        assert target_model.queries - 2 * in_turn == 24 * (1 + 9 * (3 + 1 + 1))
