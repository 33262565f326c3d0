"""Laws that every corruption obeys, and literal values of each."""

import itertools

import numpy as np
import pytest

from keras_srt.corruptions import CORRUPTIONS, SEVERITIES, corruptions_for
from keras_srt.corruptions.blur import _disk, _trail

RANDOM = np.random.default_rng(0)


def photos(side: int, channels: int, count: int = 6) -> np.ndarray:
    """Smooth images with edges, uint8."""
    rows, columns = np.indices((side, side)) / side
    waves = [np.sin(7 * rows * k + 5 * columns) for k in range(1, count + 1)]
    shapes = np.stack([wave + (rows + columns > 1) for wave in waves])
    shifts = np.linspace(0, 0.3, channels)
    return np.uint8(60 + 60 * np.clip(shapes[..., None] + shifts, -1, 2))


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("side", [28, 96])
def test_result_depends_on_seed_and_number_of_the_image_alone(name: str, side: int) -> None:
    corruption, images = CORRUPTIONS[name], photos(side, 3)
    whole = corruption.apply(images, 3, seed=5)
    assert whole.shape == images.shape
    assert whole.dtype == np.uint8
    parts = [corruption.apply(images[i : i + 2], 3, seed=5, first=i) for i in (0, 2, 4)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_gray_images_are_changed_unless_only_colors_change(name: str) -> None:
    images = photos(28, 1)
    if CORRUPTIONS[name].color_only:
        assert name not in {each.name for each in corruptions_for(1)}
    else:
        assert (CORRUPTIONS[name].apply(images, 5) != images).any()


# Severities of `saturate` first fade, then strengthen; those of `elastic_transform` have other
# wavelengths.
@pytest.mark.parametrize(
    "name", [n for n in CORRUPTIONS if n not in {"saturate", "elastic_transform"}]
)
@pytest.mark.parametrize("side", [32, 96])
def test_distance_grows_with_severity(name: str, side: int) -> None:
    images = photos(side, 3, count=24)
    distances = [
        np.abs(np.float64(CORRUPTIONS[name].apply(images, severity)) - images).mean()
        for severity in SEVERITIES
    ]
    # Blocks, angles and directions are random; disks of 32-pixel images begin with one pixel.
    assert all(a <= 1.1 * b for a, b in itertools.pairwise(distances)), distances
    assert distances[4] > distances[0]


def test_strengths_are_the_published_ones() -> None:
    """From make_cifar_c.py and make_imagenet_c.py of github.com/hendrycks/robustness."""
    published = {
        "gaussian_noise": ([0.04, 0.06, 0.08, 0.09, 0.10], [0.08, 0.12, 0.18, 0.26, 0.38]),
        "shot_noise": ([500, 250, 100, 75, 50], [60, 25, 12, 5, 3]),
        "impulse_noise": ([0.01, 0.02, 0.03, 0.05, 0.07], [0.03, 0.06, 0.09, 0.17, 0.27]),
        "brightness": ([0.05, 0.1, 0.15, 0.2, 0.3], [0.1, 0.2, 0.3, 0.4, 0.5]),
        "contrast": ([0.75, 0.5, 0.4, 0.3, 0.15], [0.4, 0.3, 0.2, 0.1, 0.05]),
        "jpeg_compression": ([80, 65, 58, 50, 40], [25, 18, 15, 10, 7]),
        "pixelate": ([0.95, 0.9, 0.85, 0.75, 0.65], [0.6, 0.5, 0.4, 0.3, 0.25]),
    }
    for name, (small, large) in published.items():
        strengths = CORRUPTIONS[name]
        assert [strengths.strength(s, 32) for s in SEVERITIES] == small
        assert [strengths.strength(s, 224) for s in SEVERITIES] == large


def call(name: str, image: np.ndarray, strength: object, seed: int = 0) -> np.ndarray:
    return CORRUPTIONS[name].function(image, strength, np.random.default_rng(seed))


def test_lost_data() -> None:
    white = np.ones((10, 20, 3))
    assert (call("lost_pixels", white, 0.25) == 0).all(axis=2).sum() == 50
    assert (call("lost_rows", white, 0.3) == 0).all(axis=(1, 2)).sum() == 3
    rows, columns = np.nonzero((call("lost_block", white, 0.25) == 0).all(axis=2))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1, len(rows)) == (5, 10, 50)
    faded = call("missing_channel", white, 0.4)
    np.testing.assert_allclose(np.sort(faded[0, 0]), [0.6, 1, 1])
    stuck = call("stuck_channel", 0 * white, 1.0)
    np.testing.assert_allclose(np.sort(stuck[0, 0]), [0, 0, 1])


def test_colors() -> None:
    red = np.float64([[[1.0, 0.0, 0.0]]])
    np.testing.assert_allclose(call("gray", red, 0.5).ravel(), [0.6495, 0.1495, 0.1495])
    turned = call("hue", red, 120.0).ravel()
    assert sorted(turned.round(6)) == [0, 0, 1]
    assert turned[0] < 1e-6
    np.testing.assert_allclose(call("saturate", red, (0.25, 0.25)).ravel(), [1, 0.5, 0.5])
    dark_red = red / 2
    np.testing.assert_allclose(call("brightness", dark_red, 0.25).ravel(), [0.75, 0, 0])
    np.testing.assert_allclose(call("brightness", np.full((1, 1, 1), 0.5), 0.25).ravel(), [0.75])
    two = np.float64([[[0.2], [0.6]]])
    np.testing.assert_allclose(call("contrast", two, 0.5).ravel(), [0.3, 0.5])


def test_noise_has_the_moments_of_its_distribution() -> None:
    image = np.full((200, 200, 1), 0.5)
    noise = call("gaussian_noise", image, 0.1) - image
    assert abs(noise.mean()) < 0.002
    assert noise.std() == pytest.approx(0.1, rel=0.02)
    shot = call("shot_noise", image, 50)
    assert shot.mean() == pytest.approx(0.5, rel=0.01)
    assert shot.var() == pytest.approx(0.5 / 50, rel=0.05)
    impulses = call("impulse_noise", image, 0.2)
    assert (impulses == 0).mean() == pytest.approx(0.1, abs=0.01)
    assert (impulses == 1).mean() == pytest.approx(0.1, abs=0.01)


def test_defocus_is_a_convolution_with_a_disk() -> None:
    impulse = np.zeros((21, 21, 1))
    impulse[10, 10] = 1
    blurred = call("defocus_blur", impulse, (3, 0.0001))[..., 0]
    rows, columns = np.indices((21, 21)) - 10
    inside = rows**2 + columns**2 <= 9
    np.testing.assert_allclose(blurred, inside / inside.sum(), atol=1e-12)
    assert _disk(10, 0.5).sum() == pytest.approx(1)


def test_motion_blur_is_a_trail_with_gaussian_weights() -> None:
    weights = np.exp(-(np.arange(5) ** 2) / 8)
    level = np.zeros((9, 9))
    level[4, 4:] = weights / weights.sum()
    np.testing.assert_allclose(_trail(2, 2.0, 0.0), level)
    diagonal = _trail(2, 2.0, np.pi / 4)
    assert diagonal.sum() == pytest.approx(1)
    assert (np.tril(diagonal, -1) == 0).all()
    assert (np.triu(diagonal, 1) == 0).all()
    flat = np.full((12, 12, 3), 0.3)
    np.testing.assert_allclose(call("motion_blur", flat, (6, 2.0)), flat)


def test_coding() -> None:
    levels = np.linspace(0, 1, 256).reshape(16, 16, 1)
    np.testing.assert_allclose(np.unique(call("bit_depth", levels, 2)), [0, 1 / 3, 2 / 3, 1])
    blocks = np.float64([[0, 1], [1, 0]]).repeat(2, 0).repeat(2, 1)[..., None]
    np.testing.assert_array_equal(call("pixelate", blocks, 0.5), blocks)
    np.testing.assert_allclose(call("pixelate", blocks, 0.25), 0.5, atol=1 / 255)
    smooth = np.tile(np.linspace(0.2, 0.8, 32)[:, None, None], (1, 32, 3))
    assert np.abs(call("jpeg_compression", smooth, 80) - smooth).max() < 0.03


def test_elastic_transform_without_displacement_is_the_identity() -> None:
    image = photos(28, 3)[0] / 255.0
    np.testing.assert_allclose(call("elastic_transform", image, (0, 0, 0)), image, atol=1e-9)
    warped = call("elastic_transform", image, (0.1, 0.03, 0.03))
    assert 0.005 < np.abs(warped - image).mean() < 0.2


def test_error_names_what_is_allowed() -> None:
    with pytest.raises(ValueError, match=r"severity: got 6; allowed: 1 to 5"):
        CORRUPTIONS["gray"].apply(photos(8, 3), 6)
    with pytest.raises(ValueError, match=r"images: got float64 \[6, 8, 8, 3\]; allowed: uint8"):
        CORRUPTIONS["gray"].apply(photos(8, 3) / 255.0, 1)
