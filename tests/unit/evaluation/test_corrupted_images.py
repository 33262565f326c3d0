"""Accuracy on corrupted images, for models whose predictions are known."""

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.attacks import QueryModel
from keras_srt.corruptions import CORRUPTIONS, SEVERITIES
from keras_srt.evaluation.corrupted_images import accuracy_on_corruptions


def bright(images):
    """Class 1 where the mean is above one half."""
    mean = tf.reduce_mean(tf.convert_to_tensor(images), axis=[1, 2, 3])
    return tf.stack([0.5 - mean, mean - 0.5], axis=1)


def white(count, channels):
    return np.ones((count, 10, 10, channels), np.float32), np.ones(count, np.int32)


def test_each_cell_is_the_accuracy_on_these_corrupted_images():
    images, labels = white(3, 1)
    part = accuracy_on_corruptions(QueryModel(bright, 2), images, labels, seed=1)
    cells = {each["name"]: each["severities"] for each in part["corruptions"]}
    # Half of a white image is lost at severity 5: its mean is one half, which isn't above it.
    assert [cell["accuracy"] for cell in cells["lost_pixels"]] == [1, 1, 1, 1, 0]
    assert [cell["strength"] for cell in cells["lost_pixels"]] == [0.05, 0.1, 0.2, 0.3, 0.5]
    assert [cell["accuracy"] for cell in cells["brightness"]] == [1] * 5
    assert len(cells) == 14
    for name, severities in cells.items():
        for severity in SEVERITIES:
            corrupted = CORRUPTIONS[name].apply(
                np.full((3, 10, 10, 1), 255, np.uint8), severity, seed=1
            )
            expected = np.mean(corrupted.mean(axis=(1, 2, 3)) > 127.5)
            assert severities[severity - 1]["accuracy"] == pytest.approx(expected)


def test_the_mean_is_over_corruptions_and_severities():
    images, labels = white(4, 3)
    part = accuracy_on_corruptions(QueryModel(bright), images, labels)
    values = [cell["accuracy"] for each in part["corruptions"] for cell in each["severities"]]
    assert len(values) == 19 * 5
    assert part["accuracy"] == pytest.approx(np.mean(values))
    assert sum(part["correct_counts"]) == pytest.approx(part["accuracy"] * 4 * 95)
    assert part["ci95"][0] <= part["accuracy"] <= part["ci95"][1]
    assert part["queries"] == 4 * 95


def test_progress_reaches_its_total():
    images, labels = white(1, 1)
    seen = []
    accuracy_on_corruptions(
        QueryModel(bright), images, labels, progress=lambda *state: seen.append(state)
    )
    assert seen[0] == ("corruptions", 0, 70)
    assert seen[-1] == ("corruptions", 70, 70)
