"""Laws of every neighborhood, for the common suite by day and for all variants at night."""

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.neighborhoods import (
    L0,
    L2,
    Color,
    Composite,
    Damage,
    LInf,
    Noise,
    PixelDropout,
    Spatial,
    solver,
)

SEED = (3, 4)
PIXEL = LInf(epsilon=0.1, num_steps=4)
TURN = Spatial(max_rotation=20, max_translation=1.5, num_samples=4)
GRID = Spatial(max_rotation=20, max_translation=1.5, search="grid", grid=(3, 1, 3))
QUICK = LInf(epsilon=0.1, num_steps=2)
PAIR = Spatial(max_rotation=20, max_translation=1.5, num_samples=2)

# One row for each component.
CASES = {
    "linf": PIXEL,
    "l2": L2(epsilon=0.7, num_steps=4),
    "l0": L0(epsilon=12, num_steps=4),
    "spatial": TURN,
    "color": Color(num_steps=3),
    "noise": Noise(sigma=0.1, num_samples=6),
    "pixel_dropout": PixelDropout(0.2, num_samples=6),
    "damage": Damage(0.4, kinds=("pixels", "channel", "gray"), num_samples=16),
    "composite": Composite(stages=(PIXEL, TURN)),
}
# Other searches, orders and starts.
VARIANTS = {
    "linf_from_center": LInf(epsilon=0.1, num_steps=4, random_start=False),
    "linf_from_noise": LInf(epsilon=0.1, num_steps=4, step_size=0.02, random_start=0.001),
    "l2_from_center": L2(epsilon=0.7, num_steps=4, random_start=False),
    "l0_from_center": L0(epsilon=12, num_steps=4, random_start=False),
    "color_from_center": Color(num_steps=3, random_start=False),
    "color_random": Color(search="random", num_samples=6),
    "noise_single_draw": Noise(epsilon=0.1),
    "spatial_grid": GRID,
    "composite_spatial_pixel": Composite(stages=(TURN, PIXEL)),
    "composite_of_three": Composite(stages=(PIXEL, GRID, L2(epsilon=0.3, num_steps=2))),
    "composite_color_noise_spatial": Composite(
        stages=(Color(num_steps=1), Noise(epsilon=0.05), PAIR)
    ),
    "color_of_pixels": Color(num_steps=3, per="pixel"),
    "color_of_pixels_random": Color(search="random", num_samples=6, per="pixel"),
    "pixel_dropout_gradient": PixelDropout(0.2, search="gradient", num_steps=4),
    "pixel_dropout_single_draw": PixelDropout(0.2, num_samples=1),
    "damage_single_draw": Damage(0.4, num_samples=1),
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
NOT_RANDOM = {"linf_from_center", "l2_from_center", "l0_from_center", "color_from_center"}
NOT_RANDOM |= {"spatial_grid", "pixel_dropout_gradient"}

NO_COLOR = dict.fromkeys(
    ["max_hue", "max_saturation", "max_gray", "max_contrast", "max_brightness"], 0
)
# Neighborhoods whose ranges are all 0, one for each component.
ZERO_RANGE = {
    "linf": LInf(epsilon=0, num_steps=2),
    "l2": L2(epsilon=0, num_steps=2),
    "l0": L0(epsilon=0, num_steps=2),
    "spatial": Spatial(max_rotation=0, max_translation=0, num_samples=3),
    "color": Color(**NO_COLOR, num_steps=2),
    "noise": Noise(epsilon=0),
    "pixel_dropout": PixelDropout(0, num_samples=2),
    "damage": Damage(0, num_samples=2),
}
ZERO_RANGE["composite"] = Composite(
    stages=(ZERO_RANGE["linf"], ZERO_RANGE["spatial"], ZERO_RANGE["l2"])
)
ZERO_RANGE_VARIANTS = {
    "linf_long_steps": LInf(epsilon=0, num_steps=2, step_size=0.5),
    "l2_long_steps": L2(epsilon=0, num_steps=2, step_size=0.5),
    "spatial_grid": Spatial(max_rotation=0, max_translation=0, search="grid", grid=(2, 2, 2)),
    "color_long_steps": Color(**NO_COLOR, num_steps=2, step_size=5),
    "color_of_pixels": Color(**NO_COLOR, num_steps=2, per="pixel"),
    "color_random": Color(**NO_COLOR, search="random", num_samples=2),
    "noise_normal": Noise(sigma=0, num_samples=2),
    "pixel_dropout_gradient": PixelDropout(0, search="gradient", num_steps=2),
    "noise_cutoff_at_0": Noise(sigma=0.1, epsilon=0),
    "noise_of_width_0": Noise(sigma=0, epsilon=0.1),
    "joint": Composite(
        stages=(ZERO_RANGE["color"], ZERO_RANGE["spatial"], ZERO_RANGE["noise"]), mode="joint"
    ),
}


def flat(parameters):
    """All numbers of θ in one vector."""
    return np.concatenate([np.ravel(part) for part in tf.nest.flatten(parameters)])


class Samples:
    """Images and a loss for the laws."""

    @pytest.fixture
    def images(self):
        """Four 8×8 images with three colors; some values are exactly 0 and exactly 1."""
        values = np.random.default_rng(1).uniform(-0.2, 1.2, (4, 8, 8, 3))
        return np.clip(values, 0, 1).astype(np.float32)

    @pytest.fixture
    def loss_fn(self, images):
        """A smooth loss of each image with a different slope at each pixel."""
        weights = np.random.default_rng(5).normal(size=(*images.shape[1:], 3)).astype(np.float32)
        return lambda moved: tf.reduce_logsumexp(tf.tensordot(moved, weights, 3), axis=-1)


class NeighborhoodLaws(Samples):
    """Laws of a neighborhood; a subclass gives the fixtures `name`, `case` and `zero_range`."""

    def test_the_result_is_valid_images(self, case, images, loss_fn):
        found = case.maximize(images, loss_fn, SEED)
        assert found.images.dtype == tf.float32
        assert found.images.shape == images.shape
        assert np.min(found.images) >= 0
        assert np.max(found.images) <= 1
        assert np.all(np.any(found.images.numpy() != images, axis=(1, 2, 3)))

    @pytest.mark.parametrize("scale", [1.0, 0.5, 0.1])
    def test_the_parameters_are_inside_and_give_the_images(self, scale, case, images, loss_fn):
        found = case.maximize(images, loss_fn, SEED, scale)
        inside = case.contains(found.parameters, scale)
        assert inside.shape == (len(images),)
        assert np.all(inside)
        size = case.relative_size(tf.nest.map_structure(np.float64, found.parameters))
        assert (size.dtype, size.shape) == (np.float64, (len(images),))
        assert np.all(size <= scale + 1e-5)
        assert np.any(size > 0.3 * scale)
        before = images.copy()
        np.testing.assert_allclose(case.apply(images, found.parameters), found.images, atol=1e-6)
        np.testing.assert_array_equal(images, before)

    def test_the_search_comes_close_to_the_limits(self, case, images, loss_fn):
        found = case.maximize(images, loss_fn, SEED, 1.0)
        assert not np.any(case.contains(found.parameters, 0.02))

    @pytest.mark.parametrize("scale", [1.0, 0.3])
    def test_random_samples_are_inside_and_scale_with_the_set(self, scale, case, images):
        drawn = case.sample(tf.constant(images), SEED, scale)
        assert np.all(case.contains(drawn, scale))
        assert not np.all(case.contains(drawn, 0.01))
        first = np.reshape(tf.nest.flatten(drawn)[0], (len(images), -1))
        assert len(np.unique(first, axis=0)) == len(images)
        tf.nest.assert_same_structure(drawn, case.identity(tf.constant(images)))

    def test_parameters_that_are_too_large_are_not_contained(self, case, images, loss_fn):
        parameters = case.maximize(images, loss_fn, SEED).parameters
        parts = tf.nest.flatten(parameters)
        for index, part in enumerate(parts):
            too_large = np.array(part)
            too_large[1] += 1000
            changed = tf.nest.pack_sequence_as(
                parameters, [*parts[:index], too_large, *parts[index + 1 :]]
            )
            np.testing.assert_array_equal(case.contains(changed), [True, False, True, True])

    def test_the_relative_size_of_nan_is_infinite(self, case, images):
        parameters = case.identity(tf.constant(images))
        parts = [np.array(part) for part in tf.nest.flatten(parameters)]
        for part in parts:
            part[1] = np.nan
        if not any(stage.name == "l0" for stage in case.stages_in_order):  # counts values
            size = case.relative_size(tf.nest.pack_sequence_as(parameters, parts))
            np.testing.assert_array_equal(np.isinf(size), [False, True, False, False])

    def test_the_identity_keeps_every_bit(self, case, images):
        parameters = case.identity(tf.constant(images))
        np.testing.assert_array_equal(flat(parameters), 0)
        np.testing.assert_array_equal(case.apply(images, parameters), images)
        assert np.all(case.contains(parameters))

    @pytest.mark.parametrize("as_tensor", [False, True])
    def test_scale_zero_keeps_every_bit(self, as_tensor, case, images, loss_fn):
        scale = tf.constant(0.0) if as_tensor else 0.0
        found = case.maximize(images, loss_fn, SEED, scale)
        np.testing.assert_array_equal(found.images, images)
        np.testing.assert_array_equal(flat(found.parameters), 0)

    def test_zero_ranges_keep_every_bit(self, zero_range, images, loss_fn):
        found = zero_range.maximize(images, loss_fn, SEED)
        np.testing.assert_array_equal(found.images, images)
        np.testing.assert_array_equal(flat(found.parameters), 0)
        assert np.all(zero_range.contains(found.parameters))

    def test_the_loss_increases(self, name, case, images, loss_fn):
        found = case.maximize(images, loss_fn, SEED)
        if not name.endswith("single_draw"):
            assert np.all(loss_fn(found.images) > loss_fn(images))

    def test_a_search_that_compares_losses_keeps_an_image_that_is_worst(self, case, images):
        def closeness(moved):
            return -tf.reduce_sum(tf.square(moved - images), axis=[1, 2, 3])

        if case.solver.returns_loss and not hasattr(case, "stages"):
            found = case.maximize(images, closeness, SEED)
            np.testing.assert_array_equal(found.images, images)
            np.testing.assert_array_equal(flat(found.parameters), 0)

    def test_the_returned_loss_is_the_loss_at_the_images(self, case, images, loss_fn):
        found = case.maximize(images, loss_fn, SEED)
        assert (found.loss is not None) == case.solver.returns_loss
        if found.loss is not None:
            np.testing.assert_allclose(found.loss, loss_fn(found.images), rtol=1e-6)

    def test_a_start_loss_changes_only_the_cost(self, case, images, loss_fn):
        calls = []

        def counted(moved):
            calls.append(len(moved))
            return loss_fn(moved)

        without = case.maximize(images, counted, SEED)
        assert len(calls) == sum(case.solver.passes(start_known=False))
        calls.clear()
        given = case.maximize(images, counted, SEED, start_loss=loss_fn(images))
        np.testing.assert_array_equal(given.images, without.images)
        assert len(calls) == sum(case.passes)

    def test_draws_are_a_function_of_the_seed(self, name, case, images, loss_fn):
        first = flat(case.maximize(images, loss_fn, (1, 2)).parameters)
        again = flat(case.maximize(images, loss_fn, (1, 2)).parameters)
        np.testing.assert_array_equal(again, first)
        for other in ((1, 3), (2, 2)):
            differs = np.any(flat(case.maximize(images, loss_fn, other).parameters) != first)
            assert differs == (name not in NOT_RANDOM)

    def test_each_image_has_its_own_worst_case(self, name, case, images, loss_fn):
        if name not in NOT_RANDOM:
            pytest.skip("draws depend on the row")
        together = case.maximize(images, loss_fn, SEED)
        for index in range(len(images)):
            alone = case.maximize(images[index : index + 1], loss_fn, SEED)
            np.testing.assert_allclose(alone.images[0], together.images[index], atol=1e-6)
            np.testing.assert_allclose(
                flat(alone.parameters), flat(together.parameters[index]), atol=1e-6
            )

    def test_fewer_steps_cost_less_in_the_same_set(self, case, images, loss_fn):
        most = case.solver.max_steps
        full = case.with_max_steps(most)
        np.testing.assert_array_equal(
            full.maximize(images, loss_fn, SEED).images, case.maximize(images, loss_fn, SEED).images
        )
        if most > 1:
            one = case.with_max_steps(1)
            assert one.solver.max_steps == 1
            assert one.range == case.range
            assert sum(one.passes) < sum(case.passes) == sum(full.passes)
            assert np.all(case.contains(one.maximize(images, loss_fn, SEED).parameters))


class GraphLaws(Samples):
    """Laws of a search in a graph, whose tracing takes seconds; a subclass gives `case`."""

    @pytest.mark.parametrize(("batch", "max_unrolled"), [(4, 1), (None, 64)])
    def test_one_trace_serves_all_scales_and_equals_eager(
        self, batch, max_unrolled, case, images, loss_fn, monkeypatch
    ):
        """Both for unrolled searches and for `tf.while_loop`."""
        monkeypatch.setattr(solver, "_MAX_UNROLLED_PASSES", max_unrolled)
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

    def test_the_search_runs_in_a_data_pipeline(self, case, images, loss_fn):
        dataset = tf.data.Dataset.from_tensors(images).map(
            lambda x: case.maximize(x, loss_fn, tf.constant(SEED)).images
        )
        (moved,) = dataset.as_numpy_iterator()
        np.testing.assert_allclose(moved, case.maximize(images, loss_fn, SEED).images, atol=1e-5)
