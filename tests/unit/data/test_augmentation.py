"""Augmentation: each transformation against its literal definition, and independence of rows."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.config.schema import AugmentationSettings
from keras_srt.data.augmentation import augment

SEED = (1, 2)
IMAGE = np.random.default_rng(0).integers(1, 256, (5, 7, 3), np.uint8)


def augmented(count=400, **settings):
    """The same image, augmented many times."""
    images = tf.constant(np.tile(IMAGE, (count, 1, 1, 1)))
    return augment(images, AugmentationSettings(**settings), SEED).numpy()


@pytest.mark.parametrize(("reflect", "mode"), [(False, "constant"), (True, "reflect")])
def test_crops_are_windows_of_the_padded_image(reflect, mode):
    padded = np.pad(IMAGE, ((1, 1), (1, 1), (0, 0)), mode)
    windows = {(i, j): padded[i : i + 5, j : j + 7] for i in range(3) for j in range(3)}
    counts = collections.Counter()
    for result in augmented(pad=1, reflect=reflect):
        matches = [key for key, window in windows.items() if np.array_equal(window, result)]
        assert len(matches) == 1
        counts[matches[0]] += 1
    assert len(counts) == 9  # all offsets, about equally often: 400/9 = 44
    assert 20 < min(counts.values()) <= max(counts.values()) < 80


def test_flip_mirrors_half_of_the_images():
    found = augmented(flip=True)
    mirrored = [np.array_equal(result, IMAGE[:, ::-1]) for result in found]
    kept = [np.array_equal(result, IMAGE) for result in found]
    assert sum(mirrored) + sum(kept) == 400
    assert 150 < sum(mirrored) < 250


def test_cutout_fills_one_square_with_the_mean_color():
    mean = np.round(IMAGE.astype(float).mean((0, 1)))
    sizes = set()
    for result in augmented(cutout=3):
        changed = (result != IMAGE).any(-1)
        assert (result[changed] == mean).all()
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        assert changed[np.ix_(rows, columns)].all()
        sizes.add((len(rows), len(columns)))
    assert max(sizes) == (3, 3)
    assert min(sizes) == (2, 2)  # squares that reach over the border


def test_color_scales_brightness_and_contrast():
    found = augmented(color=0.2) / 1.0
    mean = IMAGE.mean()
    inside = (found > 0).all((1, 2, 3)) & (found < 255).all((1, 2, 3))
    assert inside.sum() > 100
    brightness = found[inside].mean((1, 2, 3)) / mean
    assert 0.79 < brightness.min() < 0.85
    assert 1.05 < brightness.max() < 1.21  # bright images with values of 255 are left out
    spread = found[inside].std((1, 2, 3)) / IMAGE.std() / brightness
    assert 0.79 < spread.min() < 0.85
    assert 1.0 < spread.max() < 1.21


def test_each_transformation_keeps_shape_and_type():
    found = augmented(3, pad=1, flip=True, reflect=True, color=0.5, cutout=2)
    assert (found.shape, found.dtype) == ((3, 5, 7, 3), np.uint8)


def test_rows_of_a_global_batch_are_augmented_alike():
    images = tf.constant(np.random.default_rng(1).integers(0, 256, (6, 5, 7, 3), np.uint8))
    settings = AugmentationSettings(pad=1, flip=True, color=0.3, cutout=2)
    rows = tf.constant([4, 1], tf.int64)
    part = augment(tf.gather(images, rows), settings, SEED, rows, 6)
    np.testing.assert_array_equal(part, tf.gather(augment(images, settings, SEED), rows))
