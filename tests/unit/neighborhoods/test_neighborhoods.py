"""One suite of laws that every neighborhood keeps, then what is special to some."""

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.core.errors import InvalidSettings
from keras_srt.neighborhoods import (
    L0,
    L2,
    NEIGHBORHOODS,
    Color,
    Composite,
    LInf,
    Noise,
    Passes,
    Spatial,
    base,
)

PIXEL = LInf(epsilon=0.1, num_steps=4)
TURN = Spatial(max_rotation=20, max_translation=1.5, num_samples=4)
GRID = Spatial(max_rotation=20, max_translation=1.5, search="grid", grid=(3, 1, 3))
COLOR = Color(num_steps=3)
NOISE = Noise(sigma=0.1, num_samples=6)
QUICK = LInf(epsilon=0.1, num_steps=2)
PAIR = Spatial(max_rotation=20, max_translation=1.5, num_samples=2)

# One row for each neighborhood, and several where the search or the order differs.
CASES = {
    "linf": PIXEL,
    "linf_from_centre": LInf(epsilon=0.1, num_steps=4, random_start=False),
    "linf_from_noise": LInf(epsilon=0.1, num_steps=4, step_size=0.02, random_start=0.001),
    "l2": L2(epsilon=0.7, num_steps=4),
    "l2_from_centre": L2(epsilon=0.7, num_steps=4, random_start=False),
    "l0": L0(epsilon=12, num_steps=4),
    "l0_from_centre": L0(epsilon=12, num_steps=4, random_start=False),
    "color": COLOR,
    "color_from_centre": Color(num_steps=3, random_start=False),
    "color_random": Color(search="random", num_samples=6),
    "noise": Noise(epsilon=0.1),
    "noise_worst": NOISE,
    "spatial": TURN,
    "spatial_grid": GRID,
    "composite": Composite(stages=(PIXEL, TURN)),
    "composite_spatial_pixel": Composite(stages=(TURN, PIXEL)),
    "composite_of_three": Composite(stages=(PIXEL, GRID, L2(epsilon=0.3, num_steps=2))),
    "composite_color_noise_spatial": Composite(
        stages=(Color(num_steps=1), Noise(epsilon=0.05), PAIR)
    ),
    "joint": Composite(stages=(QUICK, PAIR), mode="joint"),
    "joint_spatial_pixel": Composite(stages=(PAIR, QUICK), mode="joint"),
    "joint_of_three": Composite(
        stages=(
            LInf(epsilon=0.1, num_steps=1, random_start=False),
            Spatial(max_rotation=20, max_translation=1.5, search="grid", grid=(1, 1, 2)),
            Color(num_steps=1),
        ),
        mode="joint",
    ),
}
NO_COLOR = dict.fromkeys(
    ["max_hue", "max_saturation", "max_gray", "max_contrast", "max_brightness"], 0
)
# The same with every range zero.
NOTHING = {
    "linf": LInf(epsilon=0, num_steps=2),
    "linf_long_steps": LInf(epsilon=0, num_steps=2, step_size=0.5),
    "l2": L2(epsilon=0, num_steps=2),
    "l2_long_steps": L2(epsilon=0, num_steps=2, step_size=0.5),
    "spatial": Spatial(max_rotation=0, max_translation=0, num_samples=3),
    "spatial_grid": Spatial(max_rotation=0, max_translation=0, search="grid", grid=(2, 2, 2)),
    "l0": L0(epsilon=0, num_steps=2),
    "color": Color(**NO_COLOR, num_steps=2),
    "color_long_steps": Color(**NO_COLOR, num_steps=2, step_size=5),
    "color_random": Color(**NO_COLOR, search="random", num_samples=2),
    "noise": Noise(epsilon=0),
    "noise_normal": Noise(sigma=0, num_samples=2),
    "noise_cut_off_at_0": Noise(sigma=0.1, epsilon=0),
    "noise_of_no_width": Noise(sigma=0, epsilon=0.1),
}
NOTHING["composite"] = Composite(stages=(NOTHING["linf"], NOTHING["spatial"], NOTHING["l2"]))
NOTHING["joint"] = Composite(
    stages=(NOTHING["color"], NOTHING["spatial"], NOTHING["noise"]), mode="joint"
)

NOT_RANDOM = {"linf_from_centre", "l2_from_centre", "l0_from_centre", "color_from_centre"}
NOT_RANDOM |= {"spatial_grid"}
# Those whose search compares losses, beginning with that of the image itself.
NEVER_BELOW_START = {"color", "color_from_centre", "color_random", "noise_worst", "spatial"}
NEVER_BELOW_START |= {"spatial_grid", "joint", "joint_spatial_pixel", "joint_of_three"}
ENDS_WITH_SEARCH = NEVER_BELOW_START | {"composite", "composite_color_noise_spatial"}
BEGINS_WITH_SEARCH = NEVER_BELOW_START | {"composite_spatial_pixel"}
BEGINS_WITH_SEARCH |= {"composite_color_noise_spatial"}
SEED = (3, 4)

each_case = pytest.mark.parametrize("name", CASES)


@pytest.fixture
def images():
    """Four 8×8 images with three colors; some values are exactly 0 and exactly 1."""
    values = np.random.default_rng(1).uniform(-0.2, 1.2, (4, 8, 8, 3))
    return np.clip(values, 0, 1).astype(np.float32)


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
    extent = case.relative_size(tf.nest.map_structure(np.float64, found.parameters))
    assert (extent.dtype, extent.shape) == (np.float64, (len(images),))
    assert np.all(extent <= scale + 1e-5)
    assert np.any(extent > 0.3 * scale)
    before = images.copy()
    np.testing.assert_allclose(case.apply(images, found.parameters), found.images, atol=1e-6)
    np.testing.assert_array_equal(images, before)


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
def test_the_extent_of_what_is_nowhere_is_infinite(name, images):
    case = CASES[name]
    parameters = case.unchanged(tf.constant(images))
    parts = [np.array(part) for part in tf.nest.flatten(parameters)]
    for part in parts:
        part[1] = np.nan
    if not any(stage.name == "l0" for stage in case.stages_in_order):  # counts values
        extent = case.relative_size(tf.nest.pack_sequence_as(parameters, parts))
        np.testing.assert_array_equal(np.isinf(extent), [False, True, False, False])


@each_case
def test_unchanged_leaves_every_bit(name, images):
    parameters = CASES[name].unchanged(tf.constant(images))
    np.testing.assert_array_equal(flat(parameters), 0)
    np.testing.assert_array_equal(CASES[name].apply(images, parameters), images)
    assert np.all(CASES[name].contains(parameters))


@pytest.mark.parametrize("name", sorted(NEVER_BELOW_START))
def test_an_image_that_nothing_makes_worse_is_left_alone(name, images):
    def closeness(moved):
        return -tf.reduce_sum(tf.square(moved - images), axis=[1, 2, 3])

    found = CASES[name].maximize(images, closeness, SEED)
    np.testing.assert_array_equal(found.images, images)
    np.testing.assert_array_equal(flat(found.parameters), 0)


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


@pytest.mark.parametrize("name", sorted(set(CASES) - {"noise"}))
def test_the_loss_rises(name, images, loss_fn):
    found = CASES[name].maximize(images, loss_fn, SEED)
    assert np.all(loss_fn(found.images) > loss_fn(images))


@each_case
def test_the_loss_that_is_returned_is_the_loss_at_the_images(name, images, loss_fn):
    found = CASES[name].maximize(images, loss_fn, SEED)
    assert (found.loss is not None) == (name in ENDS_WITH_SEARCH) == CASES[name].knows_loss
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
    assert case.wants_start == (name in BEGINS_WITH_SEARCH)
    assert calls_without - len(forward) == (1 if case.wants_start else 0)


@each_case
def test_draws_are_a_function_of_the_seed(name, images, loss_fn):
    case = CASES[name]
    first = flat(case.maximize(images, loss_fn, (1, 2)).parameters)
    np.testing.assert_array_equal(flat(case.maximize(images, loss_fn, (1, 2)).parameters), first)
    for other in ((1, 3), (2, 2)):
        differs = np.any(flat(case.maximize(images, loss_fn, other).parameters) != first)
        assert differs == (name not in NOT_RANDOM)


@each_case
@pytest.mark.parametrize(("batch", "most_unrolled"), [(4, 1), (None, 64)])
def test_one_trace_serves_all_scales_and_equals_eager(
    name, batch, most_unrolled, images, loss_fn, monkeypatch
):
    """Whether searches are unrolled or become loops, as long ones do."""
    monkeypatch.setattr(base, "_MOST_UNROLLED", most_unrolled)
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

    found = {scale: search(images, SEED, scale).images.numpy() for scale in (0.0, 0.3, 1.0)}
    assert len(traces) == 1
    np.testing.assert_array_equal(found[0.0], images)
    for scale in (0.3, 1.0):
        eager = case.maximize(images, loss_fn, SEED, scale)
        np.testing.assert_allclose(found[scale], eager.images, atol=1e-5)


def test_long_searches_become_loops(images, loss_fn):
    """Else a graph of thousands of passes takes minutes to trace."""

    def nodes(case):
        traced = tf.function(lambda x: case.maximize(x, loss_fn, SEED).images, autograph=False)
        return len(traced.get_concrete_function(images).graph.as_graph_def().node)

    pairs = [
        (LInf(epsilon=0.1, num_steps=65), LInf(epsilon=0.1, num_steps=500)),
        (Spatial(num_samples=65), Spatial(num_samples=775)),
        (
            Composite(
                stages=(LInf(epsilon=0.1, num_steps=2), Spatial(num_samples=30)), mode="joint"
            ),
            Composite(
                stages=(LInf(epsilon=0.1, num_steps=2), Spatial(num_samples=90)), mode="joint"
            ),
        ),
    ]
    for short, long in pairs:
        assert nodes(short) == nodes(long)


@each_case
def test_it_works_in_a_data_pipeline(name, images, loss_fn):
    case = CASES[name]
    dataset = tf.data.Dataset.from_tensors(images).map(
        lambda x: case.maximize(x, loss_fn, tf.constant(SEED)).images
    )
    (moved,) = dataset.as_numpy_iterator()
    np.testing.assert_allclose(moved, case.maximize(images, loss_fn, SEED).images, atol=1e-5)


@pytest.mark.parametrize("name", sorted(NOT_RANDOM))
def test_each_image_has_its_own_worst_case(name, images, loss_fn):
    case = CASES[name]
    together = case.maximize(images, loss_fn, SEED)
    for index in range(len(images)):
        alone = case.maximize(images[index : index + 1], loss_fn, SEED)
        np.testing.assert_allclose(alone.images[0], together.images[index], atol=1e-6)
        np.testing.assert_allclose(
            flat(alone.parameters), flat(together.parameters[index]), atol=1e-6
        )


@pytest.mark.parametrize("name", ["linf", "l2", "l0", "linf_from_noise"])
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


def test_trades_start_is_normal_noise_of_the_width_that_is_set():
    centre = tf.fill([40, 8, 8, 2], 0.5)
    drawn = LInf(epsilon=0.3, random_start=0.01).start(centre, SEED, 1.0).numpy() - 0.5
    np.testing.assert_allclose([drawn.mean(), drawn.std()], [0, 0.01], atol=3e-4)
    assert abs(np.mean(np.abs(drawn) < 0.01) - 0.683) < 0.01
    # It is projected, like every start.
    near = LInf(epsilon=0.005, random_start=0.01).start(centre, SEED, 1.0).numpy() - 0.5
    np.testing.assert_allclose(np.abs(near).max(), 0.005, rtol=1e-4)


@pytest.mark.parametrize("start", [0, 1, 1.5, -0.001, "yes", None, float("nan")])
def test_a_start_is_true_false_or_a_width(start):
    with pytest.raises(InvalidSettings, match=r"random_start: got .*true or false, or a number"):
        LInf(epsilon=0.1, random_start=start)


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
        (L0(epsilon=1, num_steps=7), Passes(0, 7)),
        (Color(num_steps=7), Passes(1, 7)),
        (Color(search="random", num_samples=7), Passes(7, 0)),
        (Noise(epsilon=0.1), Passes(0, 0)),
        (Noise(epsilon=0.1, num_samples=7), Passes(7, 0)),
    ],
)
def test_passes(case, passes):
    assert case.passes == passes
