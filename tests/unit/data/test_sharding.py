"""The replicas' shares of a dataset."""

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.data import Replicas
from keras_srt.data.sharding import shared_batch_size, split_rows


@pytest.mark.parametrize("total", [1, 2, 3])
def test_split_rows_is_a_partition(total):
    whole = tf.data.Dataset.from_tensor_slices((np.arange(10), -np.arange(10))).batch(4)
    parts = [split_rows(whole, Replicas(total, first, 1)) for first in range(total)]
    for batch, *own in zip(whole, *parts, strict=True):
        for index in (0, 1):
            together = np.concatenate([part[index] for part in own])
            np.testing.assert_array_equal(together, batch[index])
    both = list(split_rows(whole, Replicas(2, 0, 2)).as_numpy_iterator())
    assert [x.tolist() for x, _ in both] == [[0, 1], [2, 3], [4, 5], [6, 7], [8], [9]]


@pytest.mark.parametrize(
    ("count", "images", "expected"), [(1, 1001, 250), (2, 1000, 250), (2, 1001, 249), (4, 9, 250)]
)
def test_the_last_validation_batch_has_an_image_for_each_replica(count, images, expected):
    size = shared_batch_size(images, 250, count)
    assert size == expected
    assert images % size == 0 or images % size >= count
