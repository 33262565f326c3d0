"""Rotation and translation: literal arrays, SciPy, and who may call TensorFlow Addons."""

import ast
import importlib.util
import math
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

import keras_srt
from keras_srt.neighborhoods import geometry
from keras_srt.neighborhoods.geometry import rotate_and_translate

FIVE = np.arange(1, 26, dtype=np.float32).reshape(5, 5)


def moved(image, degrees=0.0, right=0.0, down=0.0):
    """One image without batch and channels, turned and shifted."""
    return rotate_and_translate(image[None, ..., None], np.float32([[degrees, right, down]]))[
        0, ..., 0
    ].numpy()


def by_scipy(image, degrees, right, down):
    """The same by SciPy: bilinear, zeros outside, about the centre, then shifted."""
    angle = math.radians(degrees)
    # Rows count downwards, so that an angle counter-clockwise on screen maps a row and a
    # column of the output to these of the input.
    back = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    centre = (np.array(image.shape) - 1) / 2
    offset = centre - back @ (centre + np.array([down, right]))
    return ndimage.affine_transform(
        image, back, offset, order=1, mode="grid-constant", cval=0.0, output=np.float64
    )


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [
        (0, FIVE),
        (
            90,
            [
                [5, 10, 15, 20, 25],
                [4, 9, 14, 19, 24],
                [3, 8, 13, 18, 23],
                [2, 7, 12, 17, 22],
                [1, 6, 11, 16, 21],
            ],
        ),
        (
            180,
            [
                [25, 24, 23, 22, 21],
                [20, 19, 18, 17, 16],
                [15, 14, 13, 12, 11],
                [10, 9, 8, 7, 6],
                [5, 4, 3, 2, 1],
            ],
        ),
        (
            -90,
            [
                [21, 16, 11, 6, 1],
                [22, 17, 12, 7, 2],
                [23, 18, 13, 8, 3],
                [24, 19, 14, 9, 4],
                [25, 20, 15, 10, 5],
            ],
        ),
    ],
)
def test_positive_angles_turn_counter_clockwise_about_the_centre(degrees, expected):
    np.testing.assert_allclose(moved(FIVE, degrees), expected, atol=1e-4)


@pytest.mark.parametrize("size", [2, 4, 5, 8])
def test_quarter_turns_of_even_and_odd_sizes(size):
    image = np.random.default_rng(size).random((size, size), np.float32)
    np.testing.assert_allclose(moved(image, 90), np.rot90(image), atol=1e-5)


@pytest.mark.parametrize(
    ("right", "down", "expected"),
    [
        (1, 0, [[0, 1, 2], [0, 4, 5], [0, 7, 8]]),
        (-1, 0, [[2, 3, 0], [5, 6, 0], [8, 9, 0]]),
        (0, 1, [[0, 0, 0], [1, 2, 3], [4, 5, 6]]),
        (0, -2, [[7, 8, 9], [0, 0, 0], [0, 0, 0]]),
        (2, -1, [[0, 0, 4], [0, 0, 7], [0, 0, 0]]),
        (3, 0, np.zeros((3, 3))),
        (0.5, 0, [[0.5, 1.5, 2.5], [2, 4.5, 5.5], [3.5, 7.5, 8.5]]),
    ],
)
def test_shifts_right_and_down_with_zeros_from_outside(right, down, expected):
    image = np.arange(1, 10, dtype=np.float32).reshape(3, 3)
    np.testing.assert_allclose(moved(image, 0, right, down), expected, atol=1e-6)


def test_turned_first_then_shifted():
    """A corner goes up-left to down-left by a quarter turn, and then to the right."""
    image = np.zeros((5, 5), np.float32)
    image[0, 0] = 1
    expected = np.zeros((5, 5))
    expected[4, 2] = 1  # shifted first, it would be at (2, 0)
    np.testing.assert_allclose(moved(image, 90, right=2), expected, atol=1e-5)


def test_no_motion_leaves_every_bit(images):
    still = rotate_and_translate(images, np.zeros((len(images), 3), np.float32))
    np.testing.assert_array_equal(still, images)


@pytest.mark.parametrize("shape", [(8, 8), (7, 12), (9, 4), (2, 6)])
@pytest.mark.parametrize(
    "motion", [(17.3, 0, 0), (-30, 0, 0), (0, 1.25, -0.4), (25, 1.5, -2.75), (-141, -0.6, 1.1)]
)
def test_fractional_motions_agree_with_scipy(shape, motion):
    image = np.random.default_rng(0).random(shape, np.float32)
    expected = by_scipy(image, *motion)
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(moved(image, *motion), expected, atol=1e-5)


def test_each_image_has_its_own_motion_and_all_its_channels_share_it(images):
    motions = np.float32([[0, 1, 0], [90, 0, 0], [0, 0, 0], [-20, 0.5, -1]])
    turned = rotate_and_translate(images, motions)
    for image, motion, result in zip(images, motions, turned, strict=True):
        for channel in range(image.shape[-1]):
            np.testing.assert_allclose(
                moved(image[..., channel], *motion), result[..., channel], atol=1e-6
            )


def test_the_gradient_is_the_transposed_motion(images):
    """⟨T(x), g⟩ = ⟨x, Tᵀ(g)⟩, as for any linear map; whole pixels, where it is exact."""
    motions = np.float32([[0, 1, 0], [0, -2, 1], [0, 0, 0], [0, 0, -1]])
    weights = tf.random.stateless_normal(images.shape, (1, 2))
    x = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.reduce_sum(rotate_and_translate(x, motions) * weights)
    np.testing.assert_allclose(
        tape.gradient(value, x), rotate_and_translate(weights, -motions), atol=1e-6
    )


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_addons") is None,
    reason="TensorFlow Addons exist for Python 3.10 and 3.11 alone",
)
def test_without_addons_images_and_gradients_are_the_same(monkeypatch, images):
    motions = tf.constant(np.float32([[0, 1, 0], [90, 0, 0], [0, 0, 0], [-20, 0.5, -1]]))

    def images_and_gradient():
        x = tf.constant(images)
        with tf.GradientTape() as tape:
            tape.watch(x)
            turned = rotate_and_translate(x, motions)
        return turned, tape.gradient(turned, x, output_gradients=tf.square(x))

    addons = mock.Mock(side_effect=geometry._by_addons)
    monkeypatch.setattr(geometry, "_by_addons", addons)
    with_addons = images_and_gradient()
    monkeypatch.setattr(geometry.importlib.util, "find_spec", lambda name: None)
    without = images_and_gradient()
    assert addons.call_count == 1
    for one, other in zip(with_addons, without, strict=True):
        np.testing.assert_array_equal(one, other)


def test_tensorflow_addons_is_imported_by_geometry_alone():
    package = Path(keras_srt.__file__).parent
    importers = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names = [node.value]  # importlib.import_module("tensorflow_addons")
            if any(name.split(".")[0] == "tensorflow_addons" for name in names):
                importers.add(path.relative_to(package).as_posix())
    assert importers == {"neighborhoods/geometry.py"}
