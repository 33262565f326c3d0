"""Color perturbations: each operation's formula, the order, the gradients; and the attack."""

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.attacks import ColorAttack, Criterion, TargetModel
from keras_srt.core.errors import InvalidSettings
from keras_srt.evaluation.runner import check_inside, evaluate_robustness
from keras_srt.neighborhoods import Color

SEED = (3, 4)
HUE, SATURATION, GRAY, CONTRAST, BRIGHTNESS = range(5)
LUMA = np.array([0.299, 0.587, 0.114])
SPACE = Color()


@pytest.fixture(scope="module")
def pictures():
    """20 smooth pictures with three colors; some values are exactly 0 and exactly 1."""
    coarse = np.random.default_rng(5).uniform(-0.3, 1.3, (20, 2, 2, 3))
    return np.clip(tf.image.resize(coarse, (6, 6)), 0, 1).astype(np.float32)


def changed(images, **parameters):
    """T(x;θ) with these parameters for every image and all others 0."""
    numbers = np.zeros((len(images), 5), np.float32)
    for name, value in parameters.items():
        numbers[:, globals()[name.upper()]] = value
    return SPACE.apply(tf.constant(np.float32(images)), tf.constant(numbers)).numpy()


def one_pixel(*color):
    return np.float32(color).reshape(1, 1, 1, -1)


# --- operations ----------------------------------------------------------------------


def test_brightness_is_added():
    np.testing.assert_allclose(
        changed(one_pixel(0.2, 0.5, 0.95), brightness=0.1).ravel(), [0.3, 0.6, 1.0], atol=1e-6
    )
    np.testing.assert_allclose(
        changed(one_pixel(0.2, 0.5, 0.05), brightness=-0.1).ravel(), [0.1, 0.4, 0.0], atol=1e-6
    )


def test_contrast_is_about_the_mean_luma():
    black_and_white = np.float32([[[[0, 0, 0], [1, 1, 1]]]])
    half = changed(black_and_white, contrast=-0.5)
    np.testing.assert_allclose(half.ravel(), [0.25] * 3 + [0.75] * 3, atol=1e-6)
    none = changed(np.float32([[[[1, 0, 0], [0, 1, 0]]]]), contrast=-1)
    np.testing.assert_allclose(none.ravel(), [(0.299 + 0.587) / 2] * 6, atol=1e-6)
    more = changed(np.float32([[[[0.4] * 3, [0.6] * 3]]]), contrast=0.5)
    np.testing.assert_allclose(more.ravel(), [0.35] * 3 + [0.65] * 3, atol=1e-6)


def test_all_the_way_to_gray_is_the_luma(pictures):
    gray = changed(pictures, gray=1)
    np.testing.assert_allclose(gray, np.repeat((pictures @ LUMA)[..., None], 3, -1), atol=1e-6)
    np.testing.assert_allclose(changed(pictures, saturation=-1), gray, atol=1e-6)


def test_saturation_moves_away_from_gray():
    # Y = 0.5·0.299 + 0.4·0.587 + 0.3·0.114 = 0.4185; x + 0.5·(x - Y).
    np.testing.assert_allclose(
        changed(one_pixel(0.5, 0.4, 0.3), saturation=0.5).ravel(),
        [0.54075, 0.39075, 0.24075],
        atol=1e-6,
    )


def test_a_third_of_a_turn_of_pale_red():
    """By hand: (0.6, 0.4, 0.4) has Y = 0.4598, I = 0.11918, Q = 0.042307; its angle in (I, Q) falls

    by 120° (towards green), which gives I = -0.022951, Q = -0.124367.
    """
    turned = changed(one_pixel(0.6, 0.4, 0.4), hue=120)
    np.testing.assert_allclose(turned.ravel(), [0.36065, 0.54653, 0.27325], atol=2e-5)
    assert np.argmax(turned) == 1  # green, as in HSV
    assert np.argmax(changed(one_pixel(0.6, 0.4, 0.4), hue=-120)) == 2  # blue


@pytest.mark.parametrize("degrees", [-180, -77, 5, 120])
def test_hue_turns_the_plane_of_i_and_q(pictures, degrees):
    """Against TensorFlow's own conversions to YIQ and back."""
    inner = 0.4 + 0.2 * pictures  # far enough from 0 and 1 that clipping plays no part
    y, i, q = np.moveaxis(tf.image.rgb_to_yiq(inner).numpy(), -1, 0)
    angle = np.deg2rad(degrees)
    turned = np.stack(
        [y, np.cos(angle) * i + np.sin(angle) * q, np.cos(angle) * q - np.sin(angle) * i], axis=-1
    )
    expected = tf.image.yiq_to_rgb(turned).numpy()
    # Its constants are rounded to four digits, some of them.
    np.testing.assert_allclose(changed(inner, hue=degrees), expected, atol=1e-4)


def test_hue_keeps_the_luma_and_a_whole_turn_changes_nothing(pictures):
    inner = 0.4 + 0.2 * pictures
    np.testing.assert_allclose(changed(inner, hue=99) @ LUMA, inner @ LUMA, atol=1e-6)
    np.testing.assert_allclose(changed(inner, hue=360), inner, atol=1e-6)
    np.testing.assert_allclose(
        changed(changed(inner, hue=40), hue=-40), inner, atol=1e-6
    )  # and what is turned back is as it was


def test_the_order_is_the_one_of_the_formula(pictures):
    inner = 0.45 + 0.1 * pictures
    step_by_step = changed(changed(inner, hue=50), saturation=0.4)
    step_by_step = changed(changed(step_by_step, gray=0.2), contrast=0.3)
    step_by_step = changed(step_by_step, brightness=0.05)
    at_once = changed(inner, hue=50, saturation=0.4, gray=0.2, contrast=0.3, brightness=0.05)
    np.testing.assert_allclose(at_once, step_by_step, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_without_three_channels_there_are_contrast_and_brightness_alone(channels):
    images = np.random.default_rng(3).random((4, 5, 5, channels), np.float32)
    np.testing.assert_array_equal(changed(images, hue=90, saturation=0.5, gray=1), images)
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    expected = np.clip(mean + 1.2 * (images - mean) + 0.1, 0, 1)
    np.testing.assert_allclose(changed(images, contrast=0.2, brightness=0.1), expected, atol=1e-6)
    for search in ("gradient", "random"):
        found = Color(search=search, num_steps=2, num_samples=2).maximize(
            images, lambda x: tf.reduce_sum(x, [1, 2, 3]), SEED
        )
        np.testing.assert_array_equal(found.parameters[:, :CONTRAST], 0)
        assert np.any(found.parameters[:, CONTRAST:] != 0)


# --- gradients -----------------------------------------------------------------------


def test_gradients_are_the_slopes(pictures):
    """By central differences, at gray pictures, too, where HSV's hue has none."""
    gray = np.full_like(pictures[:2], 0.5)
    gray[:, 0, 0] = [0.45, 0.5, 0.5]
    images = np.concatenate([0.3 + 0.4 * pictures[:3], gray])
    weights = np.random.default_rng(6).normal(size=images.shape)
    start = np.float32(np.random.default_rng(7).uniform(-0.1, 0.1, (5, 5)))
    start[3] = 0

    def loss(θ, x):
        moved = SPACE.apply(tf.constant(np.float32(x)), tf.constant(np.float32(θ))).numpy()
        return np.sum(np.float64(moved) * weights, axis=(1, 2, 3))

    with tf.GradientTape() as tape:
        θ, x = tf.constant(start), tf.constant(images)
        tape.watch([θ, x])
        total = tf.reduce_sum(SPACE.apply(x, θ) * tf.constant(np.float32(weights)))
    by_θ, by_x = tape.gradient(total, [θ, x])
    for column, size in enumerate([2.0, 0.02, 0.02, 0.02, 0.02]):
        step = np.eye(5)[column] * size
        slope = (loss(start + step, images) - loss(start - step, images)) / (2 * size)
        np.testing.assert_allclose(by_θ[:, column], slope, rtol=5e-3, atol=2e-3)
    for pixel in (np.s_[:, 0, 0, 0], np.s_[:, 3, 2, 1]):
        step = np.zeros_like(images)
        step[pixel] = 0.02
        slope = (loss(start, images + step) - loss(start, images - step)) / 0.04
        np.testing.assert_allclose(by_x.numpy()[pixel], slope, rtol=5e-3, atol=2e-3)


def test_gray_pictures_have_a_gradient_and_it_is_finite():
    gray = tf.fill([1, 3, 3, 3], 0.5)
    with tf.GradientTape() as tape:
        θ = tf.zeros([1, 5])
        tape.watch(θ)
        total = tf.reduce_sum(SPACE.apply(gray, θ))
    np.testing.assert_allclose(tape.gradient(total, θ), [[0, 0, 0, 0, 27]], atol=1e-5)


# --- search --------------------------------------------------------------------------


def test_the_ascent_finds_the_worst_brightness():
    images = np.full((2, 3, 3, 3), 0.5, np.float32)
    sign = tf.constant([1.0, -1.0])
    found = Color(max_brightness=0.2, num_steps=5).maximize(
        images, lambda x: sign * tf.reduce_sum(x, [1, 2, 3]), SEED
    )
    np.testing.assert_allclose(found.parameters[:, BRIGHTNESS], [0.2, -0.2], atol=1e-6)
    np.testing.assert_allclose(found.images[:, 0, 0, 0], [0.7, 0.3], atol=1e-6)


def test_the_worst_point_of_the_way_is_kept():
    """Steps of the whole range jump over the peak and back; the start is the best of them."""
    images = np.full((1, 2, 2, 3), 0.5, np.float32)
    space = Color(max_brightness=0.4, num_steps=3, step_size=2, random_start=True)
    start = space.sample(tf.constant(images), SEED).numpy()[0, BRIGHTNESS]

    def peak(x):
        return -tf.abs(tf.reduce_mean(x, [1, 2, 3]) - (0.5 + start))

    found = space.maximize(images, peak, SEED)
    np.testing.assert_allclose(found.parameters[0, BRIGHTNESS], start, atol=1e-6)
    np.testing.assert_allclose(found.loss, 0, atol=1e-6)


def test_draws_are_uniform_and_each_image_has_its_own():
    space = Color(max_hue=90, max_saturation=0.5, max_gray=0.8, max_contrast=0.2, max_brightness=0)
    draws = space.sample(tf.zeros([2000, 1, 1, 3]), SEED).numpy()
    low, high = np.float32([-90, -0.5, 0, -0.2, 0]), np.float32([90, 0.5, 0.8, 0.2, 0])
    assert np.all((draws >= low) & (draws <= high))
    width = np.maximum(high - low, 1e-9)
    np.testing.assert_allclose((draws.mean(0) - (low + high) / 2) / width, 0, atol=0.03)
    np.testing.assert_allclose((draws.std(0) / width)[:4], 12**-0.5, atol=0.02)
    assert len(np.unique(draws[:, HUE])) > 1990


@pytest.mark.parametrize("channels", [1, 3])
def test_equal_parameters_of_all_pixels_are_those_of_the_image(channels):
    generator = np.random.default_rng(3)
    images = np.float32(generator.random((2, 4, 5, channels)))
    whole, single = Color(max_hue=90), Color(max_hue=90, per="pixel")
    parameters = whole.sample(tf.constant(images), SEED)
    spread = tf.broadcast_to(parameters[:, None, None], [2, 4, 5, 5])
    np.testing.assert_array_equal(whole.apply(images, parameters), single.apply(images, spread))
    np.testing.assert_array_equal(
        whole.relative_size(parameters.numpy()), single.relative_size(spread.numpy())
    )


def test_a_single_pixel_changes_its_color_alone():
    """[0097]: a color transformation may have the pixel as its unit."""
    images = np.float32(np.random.default_rng(4).random((1, 3, 3, 3)))
    parameters = np.zeros((1, 3, 3, 5), np.float32)
    parameters[0, 1, 2] = [0, 0, 1, 0, 0]  # to gray
    space = Color(max_gray=1, per="pixel")
    moved = space.apply(images, parameters).numpy()
    assert np.ptp(moved[0, 1, 2]) < 1e-6
    changed = np.any(moved != images, axis=-1)[0]
    assert np.argwhere(changed).tolist() == [[1, 2]]
    assert space.contains(parameters)
    parameters[0, 1, 2, 2] = 1.1
    assert not space.contains(parameters)


def test_extent_is_the_largest_share_and_gray_has_one_side():
    space = Color(max_hue=60, max_saturation=0.5, max_gray=0.5, max_contrast=0, max_brightness=0.2)
    θ = np.zeros((6, 5))
    θ[1, HUE], θ[1, SATURATION] = -30, 0.4
    θ[2, BRIGHTNESS] = 0.3
    θ[3, GRAY] = -0.01
    θ[4, CONTRAST] = 1e-9
    θ[5, GRAY] = 0.5
    np.testing.assert_allclose(space.relative_size(θ), [0, 0.8, 1.5, np.inf, np.inf, 1.0])
    inside = [True, True, False, False, True, True]  # 1e-9 is within float32's rounding
    np.testing.assert_array_equal(space.contains(tf.constant(np.float32(θ))), inside)


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"max_hue": 181}, "max_hue"),
        ({"max_gray": 1.5}, "max_gray"),
        ({"max_contrast": -0.1}, "max_contrast"),
        ({"search": "grid"}, "search"),
        ({"num_steps": 0}, "num_steps"),
    ],
)
def test_settings_out_of_range_are_refused(settings, path):
    with pytest.raises(InvalidSettings, match=path):
        Color(**settings)


# --- the attack ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def classifier():
    """A curved function of the colors; pictures are near to and far from leaving their class."""
    generator = np.random.default_rng(6)
    first = tf.constant(generator.normal(size=(108, 16)) * 0.15, tf.float32)
    second = tf.constant(generator.normal(size=(16, 3)), tf.float32)
    return lambda images: tf.tanh(tf.reshape(images - 0.5, [-1, 108]) @ first) @ second


@pytest.fixture(scope="module")
def answered(classifier, pictures):
    return np.int32(np.argmax(classifier(pictures), axis=1))


def run(attack, classifier, images, labels, targets=None):
    target_model = TargetModel(classifier)
    return attack.run(
        target_model, images, Criterion(labels, targets), tf.constant(SEED)
    ), target_model


SMALL = {"num_samples": 3, "num_steps": 5, "restarts": 2}


@pytest.mark.parametrize("targeted", [False, True])
def test_the_attack_stays_in_its_threat_model_and_says_whom_it_fooled(
    targeted, classifier, pictures, answered
):
    attack = ColorAttack(**SMALL)
    targets = np.int32((answered + 1) % 3) if targeted else None
    found, _ = run(attack, classifier, pictures, answered, targets)
    check_inside(attack, pictures, found)
    now = np.argmax(classifier(found.images), axis=1)
    np.testing.assert_array_equal(found.success, now == targets if targeted else now != answered)
    assert 0 < found.success.sum() < len(pictures)
    assert np.all(np.abs(found.parameters) <= attack.neighborhood.limits)
    assert np.all(found.parameters[:, GRAY] >= 0)


def test_the_attack_finds_more_than_draws_do(classifier, pictures, answered):
    draws = ColorAttack(num_samples=12, num_steps=1, step_size=0, restarts=1)
    drawn, _ = run(draws, classifier, pictures, answered)
    both, _ = run(ColorAttack(**{**SMALL, "num_samples": 12}), classifier, pictures, answered)
    assert np.all(drawn.success <= both.success)
    assert drawn.success.sum() < both.success.sum()


def test_the_attack_costs_what_it_says(pictures):
    def never(images):
        mean = tf.reduce_mean(images, [1, 2, 3])
        return tf.stack([5.0 + 0 * mean, mean], axis=1)

    found, target_model = run(ColorAttack(**SMALL), never, pictures, np.zeros(20, np.int32))
    assert not found.success.any()
    assert target_model.queries == 20 * (1 + 3 + 2 * (5 + 1))
    # The brightest picture has the highest loss.
    assert np.mean(found.parameters[:, BRIGHTNESS]) > 0.09
    found, target_model = run(ColorAttack(**SMALL), never, pictures, np.ones(20, np.int32))
    assert found.success.all()
    assert target_model.queries == 20
    np.testing.assert_array_equal(found.images, pictures)


def test_the_attack_reaches_the_exact_limit_of_brightness():
    """A threshold on the mean: an image falls just if the range reaches across it."""
    images = np.full((2, 3, 3, 3), 0.5, np.float32)
    images[1] -= 0.04

    def bright(x):
        mean = tf.reduce_mean(x, [1, 2, 3])
        return tf.stack([tf.fill(tf.shape(mean), 0.58), mean], axis=1)

    only = {"max_hue": 0, "max_saturation": 0, "max_gray": 0, "max_contrast": 0}
    attack = ColorAttack(**only, max_brightness=0.1)
    outcome = evaluate_robustness(bright, images, [0, 0], [attack])
    np.testing.assert_array_equal(outcome.surviving("color"), [False, True])


def test_the_attack_draws_for_each_image_and_seed(pictures):
    flat = lambda x: 0.0 * tf.reshape(x, [-1, 108])[:, :2] + [1.0, 0.0]  # noqa: E731
    attack = ColorAttack(**{**SMALL, "num_samples": 1})
    same = np.repeat(pictures[:1], 3, axis=0)

    def seen(seed):
        asked = []
        target_model = TargetModel(flat)
        original = target_model.predictions
        target_model.predictions = lambda x, criterion: asked.append(x) or original(x, criterion)
        attack.run(target_model, same, Criterion(np.zeros(3, np.int32)), tf.constant(seed))
        return asked[1]

    first, other = seen([1, 2]), seen([1, 3])
    assert np.abs(first - other).max() > 0.01
    assert len(np.unique(first.reshape(3, -1), axis=0)) == 3
