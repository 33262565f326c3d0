"""Reading of selected training records, with the shards in any order."""

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
# Records that are filtered at once, which is much faster than one by one.
_CHUNK = 64
_PROBLEM = "keras_srt error"


class Reader:
    """Reads selected records, together with their ordinals in the selection.

    Args:
        records: All records.
        chosen: The indices of the selected records.
        lane: The range of ordinals to read, (first, last + 1); None for all.
    """

    def __init__(
        self, records: Records, chosen: IndexRanges, lane: tuple[int, int] | None = None
    ) -> None:
        self._records = records
        begin, end = lane if lane is not None else (0, len(chosen))
        self.size = end - begin
        starts = np.concatenate([[0], np.cumsum(records.lengths)]).astype(np.int64)
        # The part of each shard between the first and the last record of the lane.
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
        """Read the selected records as `(ordinal, record)`, still encoded.

        Args:
            order: int64 [num_parts], the order of the shards' parts.
            start: int64 scalar, the number of selected records to skip; parts that are skipped
                completely are not opened.
        """
        counts = tf.gather(self._counts, order)
        skipped = tf.clip_by_value(start - tf.cumsum(counts, exclusive=True), 0, counts)
        parts = tf.data.Dataset.from_tensor_slices((order, skipped))
        parts = parts.filter(lambda part, skip: skip < self._counts[part])
        return parts.flat_map(self._read_part)

    def in_order(self) -> tf.data.Dataset:
        """Read the selected records once, in the order of their indices."""
        return self.read(tf.range(self.num_parts, dtype=tf.int64), tf.constant(0, tf.int64))

    def _read_part(self, part: tf.Tensor, skip: tf.Tensor) -> tf.data.Dataset:
        shard, ordinal = self._shards[part], self._rank[part] + skip
        place = tf.searchsorted(self._before, ordinal[None], side="right")[0] - 1
        index = self._first[place] + ordinal - self._before[place]
        start, end, leave = self._starts[shard], self._starts[shard + 1], self._leave[part]
        found = self._records.read(shard, index - start)
        found = found.apply(tf.data.experimental.assert_cardinality(end - index))
        # No limit at the end of a shard, so that excess records are detected.
        found = found.take(tf.where(leave == end, tf.constant(-1, tf.int64), leave - index))
        numbered = tf.data.Dataset.zip((tf.data.Dataset.range(index, FOREVER), found))
        return numbered.batch(_CHUNK).map(self._keep_chosen).unbatch()

    def _keep_chosen(self, index: tf.Tensor, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Keep the selected ones of some records, and add their ordinals."""
        # No index is below the first selected one: a lane starts at a selected record.
        place = tf.searchsorted(self._first, index, side="right") - 1
        inside = index < tf.gather(self._end, place)
        ordinal = tf.gather(self._before, place) + index - tf.gather(self._first, place)
        return tf.boolean_mask(ordinal, inside), tf.boolean_mask(record, inside)


def _select(chosen: IndexRanges, ordinals: np.ndarray) -> np.ndarray:
    """The indices of the selected records with the given ordinals."""
    place = np.searchsorted(chosen.before, ordinals, side="right") - 1
    return chosen.bounds[place, 0] + ordinals - chosen.before[place]


def ordered_batches(records: Records, chosen: IndexRanges, batch_size: int) -> tf.data.Dataset:
    """Return batches of the selected images in order, float32 in [0, 1]."""
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
    """Load selected images and labels into memory.

    Args:
        records: The training records.
        indices: int64 [n], sorted; other shards are not read.

    Returns:
        n images with labels.
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
    """Load the labels of the first records, int32 [count], without decoding images."""
    read = Reader(records, IndexRanges([[0, count]])).in_order()
    labels = read.map(lambda _, record: records.label(record))
    with translate_read_errors():
        return np.fromiter(labels.as_numpy_iterator(), np.int32, count)


def call_python(read: Callable[[int], np.ndarray], record: tf.Tensor) -> tf.Tensor:
    """Read an image with a Python function; `translate_read_errors` raises its `UserError`.

    An exception inside `tf.numpy_function` would be printed by TensorFlow with its traceback.

    Args:
        read: A function from the number of a record to a uint8 array.
        record: int64 scalar, the number of the record.

    Returns:
        The uint8 array.
    """

    def read_or_encode_error(number: np.ndarray) -> tuple[np.ndarray, bytes]:
        try:
            return read(int(number)), b""
        except UserError as error:
            # Hexadecimal, because TensorFlow escapes non-ASCII characters.
            return np.zeros(0, np.uint8), str(error).encode().hex().encode()

    image, problem = tf.numpy_function(read_or_encode_error, [record], (tf.uint8, tf.string))
    with tf.control_dependencies([tf.debugging.Assert(problem == b"", [_PROBLEM, problem])]):
        return tf.identity(image)


@contextmanager
def translate_read_errors() -> Iterator[None]:
    """Translate TensorFlow's errors while reading records to `UserError`.

    Raises:
        UserError: A shard is missing, damaged, or has the wrong number of records; or the error
            that `call_python` recorded.
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
            kind = "a shard has the wrong number of records"
        elif isinstance(error, tf.errors.NotFoundError):
            kind = "a shard is missing"
        else:
            kind = "a shard is damaged"
        raise UserError(
            f"data: {kind} ({reason[:200]}); copy the dataset again, or prepare it with TFDS"
        ) from error
