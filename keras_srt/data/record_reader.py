"""Chosen records of a training part, read in any order of its shards."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.core.tensorflow import tf
from keras_srt.data.index_ranges import IndexRanges
from keras_srt.data.records import Records
from keras_srt.data.source import Images

FOREVER = np.iinfo(np.int64).max
# Records that are looked up at once; far cheaper than one by one.
_CHUNK = 64
_PROBLEM = "a problem of keras_srt"


class Reader:
    """Reads chosen records, whole or a lane of them, with their ordinals among the chosen.

    Args:
        records: all of them.
        chosen: indices of those to read.
        lane: the first ordinal and the one after the last; None for all.
    """

    def __init__(
        self, records: Records, chosen: IndexRanges, lane: tuple[int, int] | None = None
    ) -> None:
        self._records = records
        begin, end = lane if lane is not None else (0, len(chosen))
        self.size = end - begin
        starts = np.concatenate([[0], np.cumsum(records.lengths)]).astype(np.int64)
        # Parts of shards: where the lane enters a shard, and where it leaves it.
        first, last = _select(chosen, np.array([begin, end - 1]))
        enter, leave = np.maximum(starts[:-1], first), np.minimum(starts[1:], last + 1)
        ranks = chosen.rank(np.maximum(enter, 0)), chosen.rank(np.maximum(leave, enter))
        own = np.flatnonzero(ranks[1] > ranks[0])
        self._shards, self._starts = tf.constant(own), tf.constant(starts)
        self._leave, self._rank = tf.constant(leave[own]), tf.constant(ranks[0][own])
        self._counts = tf.constant(ranks[1][own] - ranks[0][own])
        self._first, self._end = (tf.constant(chosen.bounds[:, side]) for side in (0, 1))
        self._before = tf.constant(chosen.before[:-1])
        self.num_parts = len(own)

    def read(self, order: tf.Tensor, start: tf.Tensor) -> tf.data.Dataset:
        """`(ordinal, record)`, undecoded.

        Args:
            order: int64 [num_parts], in which the parts of shards are read.
            start: int64 scalar, how many records of that order are left out at its start;
                parts that have none else are not opened.
        """
        counts = tf.gather(self._counts, order)
        skipped = tf.clip_by_value(start - tf.cumsum(counts, exclusive=True), 0, counts)
        parts = tf.data.Dataset.from_tensor_slices((order, skipped))
        parts = parts.filter(lambda part, skip: skip < self._counts[part])
        return parts.flat_map(self._read_part)

    def in_order(self) -> tf.data.Dataset:
        """All of them once, in the order of their indices."""
        return self.read(tf.range(self.num_parts, dtype=tf.int64), tf.constant(0, tf.int64))

    def _read_part(self, part: tf.Tensor, skip: tf.Tensor) -> tf.data.Dataset:
        shard, ordinal = self._shards[part], self._rank[part] + skip
        place = tf.searchsorted(self._before, ordinal[None], side="right")[0] - 1
        index = self._first[place] + ordinal - self._before[place]
        start, end, leave = self._starts[shard], self._starts[shard + 1], self._leave[part]
        found = self._records.read(shard, index - start)
        found = found.apply(tf.data.experimental.assert_cardinality(end - index))
        # To the shard's end without a limit, as only then too many records are noticed.
        found = found.take(tf.where(leave == end, tf.constant(-1, tf.int64), leave - index))
        numbered = tf.data.Dataset.zip((tf.data.Dataset.range(index, FOREVER), found))
        return numbered.batch(_CHUNK).map(self._keep_chosen).unbatch()

    def _keep_chosen(self, index: tf.Tensor, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The ordinals of the chosen ones of some records, and these."""
        # None lies before the first chosen one, as a lane starts at one.
        place = tf.searchsorted(self._first, index, side="right") - 1
        inside = index < tf.gather(self._end, place)
        ordinal = tf.gather(self._before, place) + index - tf.gather(self._first, place)
        return tf.boolean_mask(ordinal, inside), tf.boolean_mask(record, inside)


def _select(chosen: IndexRanges, ordinals: np.ndarray) -> np.ndarray:
    """Indices of the chosen records with these ordinals."""
    place = np.searchsorted(chosen.before, ordinals, side="right") - 1
    return chosen.bounds[place, 0] + ordinals - chosen.before[place]


def ordered_batches(records: Records, chosen: IndexRanges, batch_size: int) -> tf.data.Dataset:
    """Images of chosen records in the order of their indices, float32 in [0, 1], once."""
    images = (
        Reader(records, chosen)
        .in_order()
        .map(
            lambda _, record: tf.cast(records.image(record), tf.float32) / 255.0,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
    )
    return images.batch(batch_size).prefetch(2)


def load_records(records: Records, indices: np.ndarray) -> Images:
    """Chosen records in memory, images and labels, in the order of sorted indices.

    Args:
        records: of the training part.
        indices: int64 [n], sorted; only shards that hold one are read.

    Returns:
        n images.
    """
    read = (
        Reader(records, IndexRanges.of(indices))
        .in_order()
        .map(
            lambda _, record: (records.image(record), records.label(record)),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
    )
    images = np.empty((len(indices), *records.image_shape), np.uint8)
    labels = np.empty(len(indices), np.int32)
    with translate_read_errors():
        for number, (image, label) in enumerate(read.as_numpy_iterator()):
            images[number], labels[number] = image, label
    return Images(images, labels)


def load_labels(records: Records, count: int) -> np.ndarray:
    """Labels of the first records, int32 [count]; no image is decoded."""
    read = Reader(records, IndexRanges([[0, count]])).in_order()
    labels = read.map(lambda _, record: records.label(record))
    with translate_read_errors():
        return np.fromiter(labels.as_numpy_iterator(), np.int32, count)


def call_python(read: Callable[[int], np.ndarray], record: tf.Tensor) -> tf.Tensor:
    """What a Python function reads, uint8; its `UserError` leaves `translate_read_errors` as it is.

    Raised inside of TensorFlow, an error would be printed there, with its traceback.

    Args:
        read: of a number.
        record: int64 scalar.
    """

    def try_to_read(number: np.ndarray) -> tuple[np.ndarray, bytes]:
        try:
            return read(int(number)), b""
        except UserError as error:
            # As digits, since TensorFlow escapes other letters.
            return np.zeros(0, np.uint8), str(error).encode().hex().encode()

    image, problem = tf.numpy_function(try_to_read, [record], (tf.uint8, tf.string))
    with tf.control_dependencies([tf.debugging.Assert(problem == b"", [_PROBLEM, problem])]):
        return tf.identity(image)


@contextmanager
def translate_read_errors() -> Iterator[None]:
    """Turns what goes wrong with shards while they are read into a `UserError`.

    Raises:
        UserError: a shard has another number of records than promised, is damaged, or gone; or
            what `call_python` met.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if found := re.search(rf"{_PROBLEM}\W+([0-9a-f]+)", error.message):
            raise UserError(bytes.fromhex(found[1]).decode()) from error
        reason = " ".join(error.message.split())
        miscounted = "expected to contain" in reason
        if not miscounted and not isinstance(
            error, tf.errors.DataLossError | tf.errors.NotFoundError
        ):
            raise
        if miscounted:
            kind = "a shard has not the records that are promised"
        elif isinstance(error, tf.errors.NotFoundError):
            kind = "a shard is missing"
        else:
            kind = "a shard is damaged"
        raise UserError(
            f"data: {kind} ({reason[:200]}); copy the dataset anew, or prepare it anew with TFDS"
        ) from error
