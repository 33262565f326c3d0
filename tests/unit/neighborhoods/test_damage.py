"""Damage: what each kind loses, and how much."""

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.core.errors import InvalidSettings
from keras_srt.neighborhoods import Damage

SEED = (3, 4)
IMAGES = np.full((6, 10, 5, 3), 0.5, np.float32)


def damaged(kind, share, images=IMAGES, scale=1.0):
    """Damaged images, and the lost share of each by its parameters, in units of `scale`·share."""
    space = Damage(share, kinds=(kind,))
    parameters = space.sample(tf.constant(images), SEED, scale)
    size = space.relative_size(parameters.numpy()) / scale
    assert np.all((size > 0.4) & (size <= 1 + 1e-6))
    return space.apply(images, parameters).numpy(), size * share * scale


def test_pixels_are_lost_in_all_channels():
    moved, share = damaged("pixels", 0.2)
    lost = (moved == 0).all(axis=-1)
    np.testing.assert_array_equal((moved == 0).any(axis=-1), lost)
    np.testing.assert_allclose(lost.mean(axis=(1, 2)), share, atol=1e-5)
    assert np.all(lost.sum(axis=(1, 2)) <= 10)


def test_rows_are_lost_whole():
    moved, share = damaged("rows", 0.8, scale=0.5)
    lost = (moved == 0).all(axis=-1)
    np.testing.assert_array_equal(lost.all(axis=2), lost.any(axis=2))
    np.testing.assert_allclose(lost.mean(axis=(1, 2)), share, atol=1e-5)
    assert set(lost.all(axis=2).sum(axis=1)) <= {2, 3, 4}


def test_one_channel_fades():
    moved, share = damaged("channel", 0.3)
    faded = np.sort(moved[:, 0, 0])
    np.testing.assert_allclose(faded[:, 1:], 0.5)
    np.testing.assert_allclose(faded[:, 0], 0.5 * (1 - share), atol=1e-5)
    assert len({int(row.argmin()) for row in moved[:, 0, 0]}) > 1


def test_colors_fade_to_the_luma():
    red = np.tile(np.float32([1, 0, 0]), (2, 3, 3, 1))
    moved, share = damaged("gray", 0.5, red)
    np.testing.assert_allclose(moved[:, 0, 0, 0], 1 - 0.701 * share, atol=1e-5)
    np.testing.assert_allclose(moved[:, 0, 0, 1], 0.299 * share, atol=1e-5)


def test_every_kind_is_drawn():
    images = np.full((64, 10, 5, 3), 0.5, np.float32)
    parameters = Damage(0.2).sample(tf.constant(images), SEED).numpy()
    lost, gray = parameters[..., :-1], parameters[..., -1]
    whole_rows = (lost == 1).all(axis=(2, 3))
    kinds = {
        "gray": (gray > 0).all(axis=(1, 2)),
        "channel": ((lost > 0).sum(axis=-1) == 1).all(axis=(1, 2)),
        "rows": whole_rows.any(axis=1) & (whole_rows == lost.any(axis=(2, 3))).all(axis=1),
    }
    kinds["pixels"] = ~np.logical_or.reduce(list(kinds.values()))
    counts = {kind: int(where.sum()) for kind, where in kinds.items()}
    assert sum(counts.values()) == 64
    assert all(6 <= count <= 28 for count in counts.values()), counts


def test_gray_images_lose_pixels_and_rows_only():
    images = tf.fill([8, 10, 10, 1], 0.5)
    moved = Damage(0.2).apply(images, Damage(0.2).sample(images, SEED)).numpy()
    counts = (moved == 0).sum(axis=(1, 2, 3))
    assert np.all((counts >= 9) & (counts <= 20))
    colors = Damage(0.1, kinds=("gray",))
    np.testing.assert_array_equal(colors.sample(images, SEED), 0)


def test_settings():
    assert Damage("1/8").range == "lost share of the image <= 0.125 (pixels, rows, channel, gray)"
    assert Damage(0.1, num_samples=7).passes == (7, 0)
    assert Damage(0.1, num_samples=1).passes == (0, 0)
    with pytest.raises(InvalidSettings, match="kinds"):
        Damage(0.1, kinds=("dust",))
    with pytest.raises(InvalidSettings, match="kinds"):
        Damage(0.1, kinds=())
