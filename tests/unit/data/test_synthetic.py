"""The synthetic dataset."""

import numpy as np
import pytest

from keras_srt.core.errors import InvalidSettings
from keras_srt.data import (
    Synthetic,
    load_records,
)


def test_image_depends_on_its_index_only():
    small, large = (Synthetic(num_train=n, size=8, shard=s) for n, s in ((50, 7), (10**9, 10**4)))
    chosen = np.array([3, 11, 30, 49])
    one, again = (load_records(source.open().records(), chosen) for source in (small, large))
    np.testing.assert_array_equal(one.images, again.images)
    np.testing.assert_array_equal(one.labels, again.labels)
    whole = small.open().load_train()
    np.testing.assert_array_equal(whole.images[chosen], one.images)
    np.testing.assert_array_equal(whole.labels[chosen], one.labels)
    assert (whole.images.shape, whole.images.dtype) == ((50, 8, 8, 3), np.uint8)
    assert len(np.unique(whole.images.reshape(50, -1), axis=0)) == 50


def test_classes_are_balanced_and_separable():
    source = Synthetic(num_train=1000, num_test=200, size=8, num_classes=5)
    train, test = source.open().load_train(), source.open().load_test()
    assert np.all(np.abs(np.bincount(train.labels) - 200) < 60)
    means = np.stack([train.images[train.labels == c].mean(axis=0) for c in range(5)])
    nearest = np.square(test.images[:, None] - means).sum(axis=(2, 3, 4)).argmin(axis=1)
    assert np.mean(nearest == test.labels) > 0.95
    seen = {image.tobytes() for image in train.images}
    assert not any(image.tobytes() in seen for image in test.images)


def test_large_dataset_is_not_loaded():
    source = Synthetic(num_train=1_300_000, size=224)
    assert source.open().info.title == "synthetic (196 GB)"
    assert sum(source.open().records().lengths) == 1_300_000
    with pytest.raises(InvalidSettings, match="shuffle_buffer: got null with 196 GB"):
        source.open().load_train()


def test_too_many_shards_are_rejected():
    with pytest.raises(InvalidSettings, match=r"shard: got 7 with .*; allowed: at least 100"):
        Synthetic(num_train=10**8, shard=7)
