"""Datasets of Keras users: pairing labeled and unlabeled batches, and the range of values."""

import logging

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.core.errors import InvalidSettings
from keras_srt.data import first_images, pair, to_unit_range

GENERATOR = np.random.default_rng(0)


def images(count, shape=(4, 4, 3), top=255):
    values = GENERATOR.random((count, *shape), np.float32) * top
    values[:, 0, 0, 0] = top
    return values


def dataset(*parts, batch=4):
    return tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0]).batch(batch)


def labels(count):
    return np.int32(np.arange(count) % 3)


def test_an_epoch_is_one_pass_over_the_longer_dataset_in_batches_of_one_size():
    labeled, unlabeled = images(6), images(17)
    for one, other, steps in ((labeled, unlabeled, 5), (unlabeled, labeled, 5)):
        paired = pair(dataset(one, labels(len(one))), dataset(other))
        batches = list(paired)
        assert len(batches) == len(paired) == steps
        for batch in batches:
            assert batch["labeled"][0].shape == batch["unlabeled"].shape == (4, 4, 4, 3)
            assert batch["labeled"][1].shape == (4,)
            assert batch["labeled"][1].dtype == tf.int32
    seen = np.concatenate(
        [batch["unlabeled"] for batch in pair(dataset(labeled, labels(6)), dataset(unlabeled))]
    )
    np.testing.assert_allclose(seen[:17], unlabeled / 255, rtol=1e-6)
    np.testing.assert_allclose(seen[17:], unlabeled[:3] / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("top", "dtype", "divisor"), [(255, "float32", 255), (255, "uint8", 255), (1, "float32", 1)]
)
def test_values_up_to_255_are_rescaled_with_a_message(top, dtype, divisor, caplog):
    pixels = images(4, top=top).astype(dtype)
    with caplog.at_level(logging.INFO):
        (batch,) = pair(dataset(pixels, labels(4)), dataset(pixels))
    np.testing.assert_allclose(batch["labeled"][0], np.float32(pixels) / divisor, rtol=1e-6)
    np.testing.assert_allclose(batch["unlabeled"], np.float32(pixels) / divisor, rtol=1e-6)
    message = "labeled and unlabeled: images with values from 0 to 255, rescaled to [0, 1]"
    assert caplog.messages == [message] * (divisor == 255)
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_labels_may_be_a_column_of_floats():
    (batch,) = pair(dataset(images(4), np.float32([[0], [1], [1], [0]])), dataset(images(4)))
    np.testing.assert_array_equal(batch["labeled"][1], [0, 1, 1, 0])


@pytest.mark.parametrize(
    ("labeled", "unlabeled", "message"),
    [
        (lambda: dataset(images(4)), lambda: dataset(images(4)), "labeled: got batches of another"),
        (
            lambda: dataset(images(4), np.eye(4, dtype=np.float32)),
            lambda: dataset(images(4)),
            r"labeled: got labels of shape \(4, 4\); allowed: class ids",
        ),
        (
            lambda: dataset(images(4), labels(4)).unbatch(),
            lambda: dataset(images(4)),
            r"labeled: got shape \(4, 4, 3\); allowed: images \[batch",
        ),
        (
            lambda: dataset(images(4), labels(4)),
            lambda: dataset(images(4), labels(4)),
            "unlabeled: got batches with labels; allowed: images only",
        ),
        (
            lambda: dataset(images(4), labels(4)),
            lambda: dataset(images(4, (5, 4, 3))),
            r"unlabeled: got images of shape \(5, 4, 3\); allowed: \(4, 4, 3\)",
        ),
        (
            lambda: dataset(images(4), labels(4)),
            lambda: dataset(images(4, top=1)),
            "unlabeled: got another range of values than the labeled",
        ),
        (
            lambda: dataset(images(4, top=300), labels(4)),
            lambda: dataset(images(4)),
            "labeled: got images with values from .* to 300; allowed: 0 to 1, or 0 to 255",
        ),
        (
            lambda: dataset(images(4), labels(4)),
            lambda: dataset(images(4)).repeat(),
            "unlabeled: got a dataset of infinite",
        ),
        (
            lambda: dataset(images(4), labels(4)),
            lambda: dataset(images(4)).take(0),
            "unlabeled: got an empty dataset",
        ),
        (lambda: images(4), lambda: dataset(images(4)), "labeled: got batches of another"),
    ],
)  # fmt: skip
def test_other_structures_are_refused(labeled, unlabeled, message):
    with pytest.raises(InvalidSettings, match=message):
        pair(labeled(), unlabeled())


def test_to_unit_range_rescales_arrays_datasets_and_tuples():
    pixels, ids = images(6), labels(6)
    expected = pixels / 255
    np.testing.assert_allclose(to_unit_range(pixels, "x"), expected, rtol=1e-6)
    np.testing.assert_allclose(
        to_unit_range(np.uint8(pixels), "x"), np.uint8(pixels) / 255, rtol=1e-6
    )
    rescaled, same = to_unit_range((pixels, ids), "x")
    np.testing.assert_allclose(rescaled, expected, rtol=1e-6)
    assert same is ids
    found = np.concatenate([batch for batch, _ in to_unit_range(dataset(pixels, ids), "x")])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    found = np.concatenate(list(to_unit_range(dataset(pixels), "x")))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_to_unit_range_returns_other_data_unchanged():
    within = images(4, top=1)
    for data in (within, dataset(within), dataset(within, labels(4)), None, "text"):
        assert to_unit_range(data, "x") is data
    batches = pair(dataset(within, labels(4)), dataset(within))
    assert to_unit_range(batches, "x") is batches


def test_the_first_batch_is_read_once_for_data_that_is_passed_in_every_epoch():
    read = []

    def count(image):
        tf.py_function(lambda: read.append(1), [], [])
        return image

    data = dataset(images(4, top=1)).map(count)
    for _ in range(3):
        assert to_unit_range(data, "validation_data") is data
    assert len(read) == 1


def test_first_images_are_those_of_the_first_training_batch():
    within = images(10, top=1)
    paired = pair(dataset(within[:4], labels(4)), dataset(within[4:], batch=6))
    np.testing.assert_array_equal(first_images(paired), within)
    np.testing.assert_array_equal(first_images(dataset(within, labels(10))), within[:4])
    np.testing.assert_array_equal(first_images(within), within)
    assert first_images(iter([])) is None
