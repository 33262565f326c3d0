"""scikit-learn's digits."""

import collections

import numpy as np

from keras_srt.data import (
    Digits,
)


def test_digits():
    source = Digits()
    info = source.open().info
    train, test = source.open().load_train(), source.open().load_test()
    assert info.input_shape == (28, 28, 1)
    assert info.class_names == tuple("0123456789")
    assert (info.num_train, info.num_test) == (1297, 500)
    for part, count in ((train, 1297), (test, 500)):
        assert part.images.shape == (count, 28, 28, 1)
        assert part.images.dtype == np.uint8
        assert part.labels.shape == (count,)
        assert part.labels.dtype == np.int32
        assert part.images.min() == 0
        assert part.images.max() == 255
    shares = np.bincount(test.labels) - 500 * np.bincount(np.r_[train.labels, test.labels]) / 1797
    assert np.all(np.abs(shares) < 1)


def test_digits_share_no_image_between_training_and_test():
    """At the dataset's own size; every image is in one of the parts, once."""
    from sklearn.datasets import load_digits

    source = Digits(size=8)
    train, test = (
        [(image.tobytes(), label) for image, label in zip(*part, strict=True)]
        for part in (source.open().load_train(), source.open().load_test())
    )
    assert not set(train) & set(test)
    digits = load_digits()
    pixels = np.uint8(np.round(digits.images * (255 / 16)))
    everything = [
        (image.tobytes(), label) for image, label in zip(pixels, digits.target, strict=True)
    ]
    assert collections.Counter(train + test) == collections.Counter(everything)


def test_digits_are_deterministic_and_have_the_requested_size():
    one, again = Digits(size=12).open().load_train(), Digits(size=12).open().load_train()
    np.testing.assert_array_equal(one.images, again.images)
    np.testing.assert_array_equal(one.labels, again.labels)
    assert one.images.shape[1:] == Digits(size=12).open().info.input_shape == (12, 12, 1)
