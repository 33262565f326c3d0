"""One suite of laws that every neighborhood keeps, then what is special to some."""

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.neighborhoods import L2, NEIGHBORHOODS, Composite, LInf, Passes, Spatial

PIXEL = LInf(epsilon=0.1, num_steps=4)
TURN = Spatial(max_rotation=20, max_translation=1.5, num_samples=4)
GRID = Spatial(max_rotation=20, max_translation=1.5, search="grid", grid=(3, 1, 3))

# One row for each neighborhood, and several where the search or the order differs.
CASES = {
    "linf": PIXEL,
    "linf_from_centre": LInf(epsilon=0.1, num_steps=4, random_start=False),
    "linf_many_steps": LInf(epsilon=0.1, num_steps=66, step_size=0.0005),
    "l2": L2(epsilon=0.7, num_steps=4),
    "l2_from_centre": L2(epsilon=0.7, num_steps=4, random_start=False),
    "spatial": TURN,
    "spatial_grid": GRID,
    "spatial_big_grid": Spatial(max_rotation=20, search="grid", grid=(3, 2, 11)),
    "composite": Composite(stages=(PIXEL, TURN)),
    "composite_spatial_pixel": Composite(stages=(TURN, PIXEL)),
    "composite_of_three": Composite(stages=(PIXEL, GRID, L2(epsilon=0.3, num_steps=2))),
}
# The same with every range zero.
NOTHING = {
    "linf": LInf(epsilon=0, num_steps=2),
    "linf_long_steps": LInf(epsilon=0, num_steps=2, step_size=0.5),
    "l2": L2(epsilon=0, num_steps=2),
    "l2_long_steps": L2(epsilon=0, num_steps=2, step_size=0.5),
    "spatial": Spatial(max_rotation=0, max_translation=0, num_samples=3),
    "spatial_grid": Spatial(max_rotation=0, max_translation=0, search="grid", grid=(2, 2, 2)),
}
NOTHING["composite"] = Composite(stages=(NOTHING["linf"], NOTHING["spatial"], NOTHING["l2"]))

IS_RANDOM = {"linf", "linf_many_steps", "l2", "spatial", "composite", "composite_spatial_pixel"}
IS_RANDOM.add("composite_of_three")
ENDS_WITH_SEARCH = {"spatial", "spatial_grid", "spatial_big_grid", "composite"}
SEED = (3, 4)

each_case = pytest.mark.parametrize("name", CASES)


@pytest.fixture
def loss_fn(images):
    """A smooth loss of each image, other for each pixel, as a classifier's would be."""
    weights = np.random.default_rng(5).normal(size=(*images.shape[1:], 3)).astype(np.float32)

    def loss(moved):
        return tf.reduce_logsumexp(tf.tensordot(moved, weights, 3), axis=-1)

    return loss


@pytest.fixture
def linear_loss(images):
    """The slope of a loss without curvature, and the loss: the sum over slope · x."""
    slope = np.random.default_rng(6).normal(size=images.shape).astype(np.float32)
    return slope, lambda moved: tf.reduce_sum(slope * moved, axis=[1, 2, 3])


def flat(parameters):
    """All numbers of θ in one vector."""
    return np.concatenate([np.ravel(part) for part in tf.nest.flatten(parameters)])


def test_every_neighborhood_is_in_this_suite():
    assert {case.name for case in CASES.values()} == set(NEIGHBORHOODS)
    assert {case.name for case in NOTHING.values()} == set(NEIGHBORHOODS)


@each_case
def test_images_stay_images(name, images, loss_fn):
    found = CASES[name].maximize(images, loss_fn, SEED)
    assert found.images.dtype == tf.float32
    assert found.images.shape == images.shape
    assert np.min(found.images) >= 0
    assert np.max(found.images) <= 1
    assert np.all(np.any(found.images.numpy() != images, axis=(1, 2, 3)))


@each_case
@pytest.mark.parametrize("scale", [1.0, 0.5, 0.1])
def test_parameters_are_inside_and_give_the_images(name, scale, images, loss_fn):
    case = CASES[name]
    found = case.maximize(images, loss_fn, SEED, scale)
    inside = case.contains(found.parameters, scale)
    assert inside.shape == (len(images),)
    assert np.all(inside)
    np.testing.assert_allclose(case.apply(images, found.parameters), found.images, atol=1e-6)


@each_case
def test_the_search_comes_close_to_the_limits_and_scale_shrinks_them(name, images, loss_fn):
    case = CASES[name]
    found = case.maximize(images, loss_fn, SEED, 1.0)
    assert not np.any(case.contains(found.parameters, 0.02))


@each_case
def test_what_is_too_large_is_not_contained(name, images, loss_fn):
    case = CASES[name]
    parameters = case.maximize(images, loss_fn, SEED).parameters
    parts = tf.nest.flatten(parameters)
    for index, part in enumerate(parts):
        one_too_large = np.array(part)
        one_too_large[1] += 1000
        changed = tf.nest.pack_sequence_as(
            parameters, [*parts[:index], one_too_large, *parts[index + 1 :]]
        )
        np.testing.assert_array_equal(case.contains(changed), [True, False, True, True])


@each_case
@pytest.mark.parametrize("as_tensor", [False, True])
def test_scale_zero_leaves_every_bit(name, as_tensor, images, loss_fn):
    scale = tf.constant(0.0) if as_tensor else 0.0
    found = CASES[name].maximize(images, loss_fn, SEED, scale)
    np.testing.assert_array_equal(found.images, images)
    np.testing.assert_array_equal(flat(found.parameters), 0)


@pytest.mark.parametrize("name", NOTHING)
def test_zero_ranges_leave_every_bit(name, images, loss_fn):
    found = NOTHING[name].maximize(images, loss_fn, SEED)
    np.testing.assert_array_equal(found.images, images)
    np.testing.assert_array_equal(flat(found.parameters), 0)
    assert np.all(NOTHING[name].contains(found.parameters))


@each_case
def test_the_loss_rises(name, images, loss_fn):
    found = CASES[name].maximize(images, loss_fn, SEED)
    assert np.all(loss_fn(found.images) > loss_fn(images))


@each_case
def test_the_loss_that_is_returned_is_the_loss_at_the_images(name, images, loss_fn):
    found = CASES[name].maximize(images, loss_fn, SEED)
    assert (found.loss is not None) == (name in ENDS_WITH_SEARCH)
    if found.loss is not None:
        np.testing.assert_allclose(found.loss, loss_fn(found.images), rtol=1e-6)


@each_case
def test_a_start_loss_changes_nothing_but_the_cost(name, images, loss_fn):
    case = CASES[name]
    forward = []

    def counted(moved):
        forward.append(len(moved))
        return loss_fn(moved)

    without = case.maximize(images, counted, SEED)
    calls_without = len(forward)
    forward.clear()
    given = case.maximize(images, counted, SEED, start_loss=loss_fn(images))
    np.testing.assert_array_equal(given.images, without.images)
    assert len(forward) == sum(case.passes)
    first = case.stages_in_order[0]
    assert calls_without - len(forward) == (1 if first.kind == "spatial" else 0)


@each_case
def test_draws_are_a_function_of_the_seed(name, images, loss_fn):
    case = CASES[name]
    first = flat(case.maximize(images, loss_fn, (1, 2)).parameters)
    np.testing.assert_array_equal(flat(case.maximize(images, loss_fn, (1, 2)).parameters), first)
    for other in ((1, 3), (2, 2)):
        differs = np.any(flat(case.maximize(images, loss_fn, other).parameters) != first)
        assert differs == (name in IS_RANDOM)


@each_case
@pytest.mark.parametrize("batch", [4, None])
def test_one_trace_serves_all_scales_and_equals_eager(name, batch, images, loss_fn):
    case = CASES[name]
    traces = []

    @tf.function(
        input_signature=[
            tf.TensorSpec([batch, *images.shape[1:]]),
            tf.TensorSpec([2], tf.int32),
            tf.TensorSpec([]),
        ],
        autograph=False,
    )
    def search(x, seed, scale):
        traces.append(1)
        return case.maximize(x, loss_fn, seed, scale)

    for scale in (0.0, 0.3, 1.0):
        found = search(images, SEED, scale)
        eager = case.maximize(images, loss_fn, SEED, scale)
        np.testing.assert_allclose(found.images, eager.images, atol=1e-5)
    assert len(traces) == 1


@each_case
def test_it_works_in_a_data_pipeline(name, images, loss_fn):
    case = CASES[name]
    dataset = tf.data.Dataset.from_tensors(images).map(
        lambda x: case.maximize(x, loss_fn, tf.constant(SEED)).images
    )
    (moved,) = dataset.as_numpy_iterator()
    np.testing.assert_allclose(moved, case.maximize(images, loss_fn, SEED).images, atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(CASES) - IS_RANDOM))
def test_each_image_has_its_own_worst_case(name, images, loss_fn):
    case = CASES[name]
    together = case.maximize(images, loss_fn, SEED)
    for index in range(len(images)):
        alone = case.maximize(images[index : index + 1], loss_fn, SEED)
        np.testing.assert_allclose(alone.images[0], together.images[index], atol=1e-6)
        np.testing.assert_allclose(
            flat(alone.parameters), flat(together.parameters[index]), atol=1e-6
        )


@pytest.mark.parametrize("name", ["linf", "l2"])
def test_each_image_starts_at_its_own_random_point(name, images):
    same = np.repeat(images[:1], 4, axis=0)
    drawn = (CASES[name].start(same, SEED, 1.0) - same).numpy().reshape(4, -1)
    assert len(np.unique(drawn, axis=0)) == 4


def test_each_image_is_turned_by_its_own_random_draws():
    draws = TURN.random_points(1000, SEED).numpy()
    assert len(np.unique(draws[:, 0])) > 990
    assert np.all(np.abs(draws) <= [20, 1.5, 1.5])
    # Uniform over the whole range: mean 0, standard deviation limit / sqrt(3).
    np.testing.assert_allclose(draws.mean(0) / [20, 1.5, 1.5], 0, atol=0.06)
    np.testing.assert_allclose(draws.std(0) / [20, 1.5, 1.5], 3**-0.5, atol=0.03)
    np.testing.assert_array_equal(TURN.random_points(1000, SEED, 0.5), draws / 2)


# --- balls ---------------------------------------------------------------------------


def test_linf_finds_the_optimum_of_a_linear_loss(images, linear_loss):
    slope, loss = linear_loss
    found = LInf(epsilon=0.1, num_steps=5).maximize(images, loss, SEED)
    np.testing.assert_allclose(
        found.images, np.clip(images + 0.1 * np.sign(slope), 0, 1), atol=1e-6
    )


def test_l2_finds_the_optimum_of_a_linear_loss(images, linear_loss):
    slope, loss = linear_loss
    inner = 0.4 + 0.2 * images  # far enough from 0 and 1 that clipping plays no part
    found = L2(epsilon=0.5, num_steps=60, step_size=0.1).maximize(inner, loss, SEED)
    length = np.sqrt(np.sum(slope**2, axis=(1, 2, 3), keepdims=True))
    np.testing.assert_allclose(found.images, inner + 0.5 * slope / length, atol=1e-4)


@pytest.mark.parametrize("size", [1.0, 1e-10, 1e-30])
@pytest.mark.parametrize("ball", [LInf, L2])
def test_the_size_of_the_gradient_plays_no_part(ball, size, images, linear_loss):
    slope, _ = linear_loss
    case = ball(epsilon=0.3, num_steps=3, random_start=False)

    def found_at(factor):
        return case.maximize(images, lambda x: tf.reduce_sum(factor * slope * x, [1, 2, 3]), SEED)

    found = found_at(size).images.numpy()
    np.testing.assert_allclose(found, found_at(1.0).images, atol=1e-5)
    assert np.all(np.any(found != images, axis=(1, 2, 3)))


@pytest.mark.parametrize("ball", [LInf, L2])
def test_without_a_gradient_the_search_stays_and_is_finite(ball, images):
    case = ball(epsilon=0.3, num_steps=3, random_start=False)
    found = case.maximize(images, lambda x: 0.0 * tf.reduce_sum(x, [1, 2, 3]), SEED)
    np.testing.assert_array_equal(found.images, images)


@pytest.mark.parametrize("ball", [LInf, L2])
def test_projection(ball):
    case = ball(epsilon=0.5)
    centre = np.full((3, 8, 8, 2), 0.5, np.float32)
    direction = np.random.default_rng(0).normal(size=centre.shape).astype(np.float32)
    direction /= case.norm(direction).numpy()[:, None, None, None]
    epsilon = tf.constant(0.25)
    inside = centre + 0.2 * direction
    np.testing.assert_allclose(case.project(centre, inside, epsilon), inside, atol=1e-7)
    boundary = centre + 0.25 * direction
    np.testing.assert_allclose(case.project(centre, boundary, epsilon), boundary, atol=1e-6)
    outside = case.project(centre, centre + 0.45 * direction, epsilon)
    np.testing.assert_allclose(case.norm(outside - centre), 0.25, rtol=1e-5)
    again = case.project(centre, outside, epsilon)
    np.testing.assert_allclose(again, outside, atol=1e-7)
    far = case.project(centre, centre + 100 * direction, tf.constant(10.0))
    assert np.min(far) >= 0
    assert np.max(far) <= 1


def test_l2_projection_keeps_the_direction(images):
    moved = np.random.default_rng(3).uniform(0.3, 0.7, images.shape).astype(np.float32)
    centre = np.full_like(images, 0.5)
    projected = L2(epsilon=1.0).project(centre, moved, tf.constant(0.1)) - centre
    length = np.sqrt(np.sum((moved - centre) ** 2, axis=(1, 2, 3), keepdims=True))
    np.testing.assert_allclose(projected, 0.1 * (moved - centre) / length, atol=1e-6)


@pytest.mark.parametrize(
    ("ball", "norms"), [(LInf, [0.0, 4.0, 0.5]), (L2, [0.0, 5.0, 0.5 * 128**0.5])]
)
def test_norm(ball, norms):
    perturbation = np.zeros((3, 8, 8, 2), np.float32)
    perturbation[1, 2, 3, 0], perturbation[1, 7, 7, 1] = 3, -4
    perturbation[2] = -0.5
    np.testing.assert_allclose(ball(epsilon=1.0).norm(perturbation), norms, rtol=1e-6)


def test_linf_starts_are_uniform_in_the_ball():
    centre = np.full((50, 8, 8, 2), 0.5, np.float32)
    drawn = (LInf(epsilon=0.2).start(centre, SEED, 1.0) - centre).numpy().ravel()
    assert np.all(np.abs(drawn) <= 0.2 + 1e-6)
    np.testing.assert_allclose([drawn.mean(), drawn.std()], [0, 0.2 * 3**-0.5], atol=0.005)


def test_l2_starts_are_uniform_in_the_ball():
    case = L2(epsilon=0.4)
    centre = np.full((2000, 1, 2, 1), 0.5, np.float32)
    drawn = (case.start(centre, SEED, 1.0) - centre).numpy()
    # In two dimensions half of the area lies within the radius ε/sqrt(2).
    radius = case.norm(drawn).numpy()
    assert np.all(radius <= 0.4 + 1e-6)
    assert abs(np.mean(radius < 0.4 * 0.5**0.5) - 0.5) < 0.04
    np.testing.assert_allclose(drawn.mean(0), 0, atol=0.02)


@pytest.mark.parametrize("ball", [LInf, L2])
def test_the_ascent_tracks_no_weights(ball, images, monkeypatch):
    tapes, weight = [], tf.Variable(2.0)

    class Recorded(tf.GradientTape):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            tapes.append(self)

    monkeypatch.setattr(tf, "GradientTape", Recorded)
    case = ball(epsilon=0.1, num_steps=3)
    case.maximize(images, lambda x: weight * tf.reduce_sum(x, [1, 2, 3]), SEED)
    assert [tape.watched_variables() for tape in tapes] == [()] * 3


@pytest.mark.parametrize("ball", [LInf, L2])
def test_steps_have_the_length_that_is_set(ball, images, linear_loss):
    _, loss = linear_loss
    inner = 0.4 + 0.2 * images
    case = ball(epsilon=1.0, num_steps=3, step_size=0.01, random_start=False)
    found = case.maximize(inner, loss, SEED)
    np.testing.assert_allclose(case.norm(found.parameters), 0.03, rtol=1e-4)
    half = case.maximize(inner, loss, SEED, 0.5)
    np.testing.assert_allclose(case.norm(half.parameters), 0.015, rtol=1e-4)


def test_the_default_step_crosses_the_ball():
    assert LInf(epsilon=0.4, num_steps=10).step_length == pytest.approx(0.1)
    assert LInf(epsilon=0.4, num_steps=10, step_size=0.02).step_length == 0.02


# --- rotation and translation --------------------------------------------------------


def test_the_grid_is_even_and_has_its_ends():
    grid = Spatial(max_rotation=30, max_translation=3, search="grid").grid_points()
    assert grid.shape == (775, 3)
    np.testing.assert_array_equal(np.unique(grid[:, 0]), np.arange(-30, 31, 2))
    for axis in (1, 2):
        np.testing.assert_array_equal(np.unique(grid[:, axis]), [-3, -1.5, 0, 1.5, 3])
    assert len(np.unique(grid, axis=0)) == 775


def test_a_grid_of_translations_right_down_and_rotations_in_this_order():
    grid = Spatial(max_rotation=30, max_translation=3, search="grid", grid=(3, 2, 1)).grid_points()
    np.testing.assert_array_equal(np.unique(grid[:, 0]), [0])
    np.testing.assert_array_equal(np.unique(grid[:, 1]), [-3, 0, 3])
    np.testing.assert_array_equal(np.unique(grid[:, 2]), [-3, 3])


def test_grid_search_finds_the_highest_loss_of_all_candidates(images, loss_fn):
    found = GRID.maximize(images, loss_fn, SEED)
    losses = [loss_fn(images).numpy()]
    for point in GRID.grid_points():
        losses.append(loss_fn(GRID.apply(images, np.tile(point, (4, 1)))).numpy())
    np.testing.assert_allclose(found.loss, np.max(losses, axis=0), rtol=1e-6)


def test_an_image_that_no_candidate_makes_worse_is_left_alone(images):
    def closeness(moved):
        return -tf.reduce_sum(tf.square(moved - images), axis=[1, 2, 3])

    found = TURN.maximize(images, closeness, SEED)
    np.testing.assert_array_equal(found.images, images)
    np.testing.assert_array_equal(found.parameters, 0)


# --- composites ----------------------------------------------------------------------


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


# --- what is said of them ------------------------------------------------------------

LINF_RANGE = "||r||_inf <= 0.1 (pixel values in [0, 1])"
L2_RANGE = "||r||_2 <= 0.3 (pixel values in [0, 1])"
SPATIAL_RANGE = "|rotation| <= 20 degrees, ||translation||_inf <= 1.5 pixels"


@pytest.mark.parametrize(
    ("name", "kind", "order", "limits"),
    [
        ("linf", "single", "pixel", LINF_RANGE),
        ("spatial", "single", "spatial", SPATIAL_RANGE),
        ("composite", "composite", "pixel -> spatial", f"{LINF_RANGE}; then {SPATIAL_RANGE}"),
        (
            "composite_spatial_pixel",
            "composite",
            "spatial -> pixel",
            f"{SPATIAL_RANGE}; then {LINF_RANGE}",
        ),
        (
            "composite_of_three",
            "composite",
            "pixel -> spatial -> pixel",
            f"{LINF_RANGE}; then {SPATIAL_RANGE}; then {L2_RANGE}",
        ),
    ],
)
def test_type_order_and_range_follow_from_the_stages(name, kind, order, limits):
    assert CASES[name].describe() == {"type": kind, "order": order, "range": limits}


def test_a_composite_within_a_composite_is_described_as_its_stages_in_order():
    nested = Composite(stages=(Composite(stages=(PIXEL, TURN)), L2(epsilon=0.3)))
    assert nested.describe() == {
        "type": "composite",
        "order": "pixel -> spatial -> pixel",
        "range": f"{LINF_RANGE}; then {SPATIAL_RANGE}; then {L2_RANGE}",
    }


@pytest.mark.parametrize(
    ("case", "passes"),
    [
        (PIXEL, Passes(0, 4)),
        (TURN, Passes(4, 0)),
        (GRID, Passes(9, 0)),
        (Spatial(search="grid"), Passes(775, 0)),
        (Composite(stages=(PIXEL, TURN)), Passes(5, 4)),
        (Composite(stages=(TURN, PIXEL)), Passes(4, 4)),
        (Composite(stages=(TURN, TURN)), Passes(8, 0)),
        (Composite(stages=(PIXEL, TURN, PIXEL, GRID)), Passes(15, 8)),
    ],
)
def test_passes(case, passes):
    assert case.passes == passes
