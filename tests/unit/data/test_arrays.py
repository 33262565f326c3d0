"""Datasets of NumPy arrays."""

import numpy as np
import pytest

from keras_srt.core.errors import InvalidSettings
from keras_srt.data import (
    Arrays,
    Digits,
)


@pytest.fixture
def arrays():
    """Settings of `Arrays`."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 5), np.uint8)
    return {
        "train_images": pixels,
        "train_labels": [0, 1, 1, 0, 1, 0],
        "test_images": pixels[:2],
        "test_labels": [1, 0],
        "class_names": ("no", "yes"),
    }


def test_arrays(arrays):
    source = Arrays(**arrays).open()
    assert source.info == ("arrays", (4, 5, 1), ("no", "yes"), 6, 2, None, None)
    np.testing.assert_array_equal(source.load_train().images[..., 0], arrays["train_images"])
    np.testing.assert_array_equal(source.load_train().labels, arrays["train_labels"])
    np.testing.assert_array_equal(source.load_test().images[..., 0], arrays["test_images"])
    np.testing.assert_array_equal(source.load_test().labels, arrays["test_labels"])
    assert source.load_train().labels.dtype == np.int32


@pytest.mark.parametrize(
    ("change", "start"),
    [
        ({"train_labels": [0, 1]}, "train_labels: got shape (2,); allowed: one class id for each"),
        ({"test_labels": [0, 2]}, "test_labels: got 0 to 2; allowed: 0 to 1"),
        ({"test_labels": [-1, 0]}, "test_labels: got -1 to 0; allowed: 0 to 1"),
        ({"train_images": np.zeros((6, 4, 5), np.float32)}, "train_images: got "),
        ({"train_images": np.zeros((6, 4), np.uint8)}, "train_images: got "),
    ],
)
def test_invalid_arrays_are_rejected(change, start, arrays):
    with pytest.raises(InvalidSettings) as caught:
        Arrays(**arrays | change)
    (problem,) = caught.value.problems
    assert problem.startswith(start)


def test_in_memory_dataset_has_no_records():
    with pytest.raises(InvalidSettings, match=r"shuffle_buffer: got a number.*'digits'"):
        Digits().open().records()
