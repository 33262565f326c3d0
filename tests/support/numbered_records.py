"""Records whose images spell their index, and helpers to compare batches."""

import numpy as np
import tensorflow as tf

from keras_srt.data import IndexRanges, Records


class Numbered(Records):
    """Record i is an image of two bytes that spell i; labels are i mod 3."""

    def __init__(self, lengths):
        self.lengths, self.image_shape = tuple(lengths), (4, 4, 2)
        self._starts = np.concatenate([[0], np.cumsum(lengths)])

    def read(self, shard, first):
        starts = tf.constant(self._starts)
        return tf.data.Dataset.range(tf.gather(starts, shard) + first, starts[shard + 1])

    def image(self, record):
        spelled = tf.stack([record % 256, record // 256])
        return tf.cast(tf.broadcast_to(spelled, self.image_shape), tf.uint8)

    def label(self, record):
        return tf.cast(record % 3, tf.int32)


LENGTHS = (17, 40, 1, 23, 19)  # 100 records


TAKEN = np.array([0, 1, 5, 16, 17, 57, 58, 99])  # at ends of shards, and one whole shard


UNLABELED = IndexRanges.of(TAKEN).complement(100)


def ids_of(images):
    """Which records these are."""
    spelled = np.round(np.asarray(images, np.float64)[:, 0, 0] * 255).astype(int)
    return spelled[:, 0] + 256 * spelled[:, 1]


def take(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


def assert_equal_batches(one, other):
    """Equal to the last bit."""
    assert len(one) == len(other)
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        np.testing.assert_array_equal(a, b)
