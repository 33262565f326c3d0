"""Batches from records that are read as they are needed; memory holds a part of them.

An endless order of the unlabeled records, made so that any place in it is found at once:
they are cut into as many equal *lanes* as there are readers, and a lane is passed through
again and again. A pass takes the lane's shards in a random order, cuts that sequence into
blocks of `shuffle_buffer // readers` records and shuffles each block. All this is keyed by
(seed, lane, pass, block), and the shards' lengths are known, so that what comes at a step
is found by skipping whole blocks and shards.

Each lane gives a batch the rows that lie in its share. A process that makes some replicas'
rows opens the lanes of these rows alone, and reads no other shards.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import tf
from keras_srt.data.batches import (
    ONE_REPLICA,
    Augmentation,
    BatchSizes,
    Replicas,
    assemble_batch,
    batch_positions,
    element_numbers,
    make_augmenter,
    mark_infinite,
    permute,
)
from keras_srt.data.index_ranges import IndexRanges
from keras_srt.data.record_reader import FOREVER, Reader
from keras_srt.data.records import Records
from keras_srt.data.source import Images


def shuffled_passes(
    reader: Reader, position: int, bound: int, seed: int, lane: int
) -> tf.data.Dataset:
    """`(ordinal, record)`, pass after pass, from a position of this endless order on.

    Args:
        reader: of a lane.
        position: how many records came before.
        bound: records of a block; none moves farther than that by shuffling.
        seed: of the order.
        lane: its number, part of the key.

    Returns:
        An endless dataset, undecoded.
    """
    first_pass, done = divmod(position, reader.size)
    first_block = done // bound

    def one_pass(number: tf.Tensor) -> tf.data.Dataset:
        key = _fold(tf.stack([seed, lane]), number)
        block = tf.where(number == first_pass, tf.constant(first_block, tf.int64), 0)
        parts = tf.range(reader.num_parts, dtype=tf.int64)
        order = permute(parts, reader.num_parts, tf.concat([key, [0]], 0))
        blocks = reader.read(order, block * bound).batch(bound)
        # Filled while the one before it is used up.
        blocks = blocks.prefetch(1)
        numbers = tf.data.Dataset.range(block, FOREVER)
        return tf.data.Dataset.zip((numbers, blocks)).flat_map(
            lambda number, block: _shuffled_block(block, _fold(key, number))
        )

    passes = tf.data.Dataset.range(first_pass, FOREVER).flat_map(one_pass)
    return passes.skip(done - first_block * bound)


def _shuffled_block(block: tuple[tf.Tensor, tf.Tensor], key: tf.Tensor) -> tf.data.Dataset:
    size = tf.shape(block[0], tf.int64)[0]
    order = permute(tf.range(size), size, tf.concat([key, [1]], 0))
    return tf.data.Dataset.from_tensor_slices(tuple(tf.gather(part, order) for part in block))


def _fold(key: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(key, tf.cast(number, tf.int32))


class Streaming(NamedTuple):
    """How records are read.

    Attributes:
        shuffle_buffer: unlabeled records among which the order is random.
        readers: places of the dataset that are read at once, the lanes.
    """

    shuffle_buffer: int
    readers: int = 1

    def check(self, sizes: BatchSizes) -> None:
        """Checks it against the images of a batch.

        Raises:
            InvalidSettings: the bound is below a batch, or a reader would have no row in it.
        """
        problems = []
        if self.shuffle_buffer < sizes.unlabeled:
            problems.append(
                f"data.shuffle_buffer: got {self.shuffle_buffer}; allowed: at least the "
                f"{sizes.unlabeled} unlabeled images of a batch, or null for all in memory"
            )
        if not 1 <= self.readers <= max(1, sizes.unlabeled):
            problems.append(
                f"data.readers: got {self.readers}; allowed: 1 to the {sizes.unlabeled} "
                "unlabeled images of a batch, as each gives it some rows"
            )
        if problems:
            raise InvalidSettings(problems)


def streamed_batches(
    labeled: Images,
    records: Records,
    unlabeled: IndexRanges,
    sizes: BatchSizes,
    streaming: Streaming,
    *,
    seed: int,
    first_step: int = 0,
    augmentation: Augmentation | None = None,
    pseudo_labels: np.ndarray | None = None,
    replicas: Replicas = ONE_REPLICA,
) -> tf.data.Dataset:
    """The batches of `training_batches`, the unlabeled images read as they are needed.

    Args:
        labeled: in memory, with labels.
        records: of the training part.
        unlabeled: which of them are used without a label.
        sizes: images of a batch; some unlabeled ones.
        streaming: how they are read.
        seed: of order and augmentation.
        first_step: the number of the first batch.
        augmentation: random changes of the images, or None.
        pseudo_labels: int32 [|U|], answers to the unlabeled images by their order, or None.
        replicas: whose rows of the batches are made.

    Returns:
        A prefetching dataset. It holds up to three times `shuffle_buffer` undecoded records,
        in proportion to this process' rows.

    Raises:
        InvalidSettings: the shuffle bound or the readers don't fit the batch, or a replica
            would have no unlabeled image.
    """
    streaming.check(sizes)
    if sizes.unlabeled < replicas.total:
        raise InvalidSettings(
            [
                f"training.batch_size: got {sizes.unlabeled} unlabeled images in a step on "
                f"{replicas.total} replicas; allowed: at least one for each, with "
                "data.shuffle_buffer"
            ]
        )
    known = tf.constant(labeled.images), tf.constant(labeled.labels, tf.int32)
    answers = tf.constant(pseudo_labels, tf.int32) if pseudo_labels is not None else None
    others = _unlabeled_rows(
        records, unlabeled, sizes.unlabeled, streaming, seed, first_step, replicas
    )

    def batch(element: tf.Tensor, read: tuple[tf.Tensor, tf.Tensor]) -> dict[str, object]:
        step, replica = replicas.at(element)
        rows = replicas.rows(sizes.labeled, replica)
        drawn = batch_positions(len(labeled.images), sizes.labeled, rows, step, seed, stream=0)
        ordinals, images = read
        shape = [replicas.rows(sizes.unlabeled, replica).shape[0], *records.image_shape]
        augmented = make_augmenter(augmentation, sizes, replicas, replica, seed, step)
        return assemble_batch(
            (tf.gather(known[0], drawn), tf.gather(known[1], drawn)),
            tf.ensure_shape(images, shape),
            None if answers is None else tf.gather(answers, tf.ensure_shape(ordinals, shape[:1])),
            augmented,
        )

    numbered = tf.data.Dataset.zip((element_numbers(first_step, replicas), others))
    return mark_infinite(numbered.map(batch, num_parallel_calls=2, deterministic=True)).prefetch(2)


def _unlabeled_rows(
    records: Records,
    unlabeled: IndexRanges,
    per_batch: int,
    streaming: Streaming,
    seed: int,
    first_step: int,
    replicas: Replicas,
) -> tf.data.Dataset:
    """`(ordinals, images)`, one element for each step and each replica of this process."""
    begin, _ = replicas.share(per_batch, replicas.first)
    _, end = replicas.share(per_batch, replicas.first + replicas.local - 1)
    lanes = []
    for lane in range(streaming.readers):
        rows = _cut(per_batch, streaming.readers, lane)
        own = max(begin, rows[0]), min(end, rows[1])
        if own[0] >= own[1]:
            continue
        reader = Reader(records, unlabeled, _cut(len(unlabeled), streaming.readers, lane))
        position = first_step * (rows[1] - rows[0])
        bound = -(-streaming.shuffle_buffer // streaming.readers)
        read = shuffled_passes(reader, position, bound, seed, lane)
        if own != rows:
            # The rows of other processes are dropped before they are decoded.
            whole = read.batch(rows[1] - rows[0])
            part = slice(own[0] - rows[0], own[1] - rows[0])
            read = whole.map(lambda *parts, part=part: tuple(p[part] for p in parts)).unbatch()
        decoded = read.map(
            lambda ordinal, record: (ordinal, records.image(record)),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        lanes.append(decoded.batch(own[1] - own[0], drop_remainder=True))
    rows = tf.data.Dataset.zip(tuple(lanes)).map(
        lambda *lanes: tuple(tf.concat(parts, axis=0) for parts in zip(*lanes, strict=True))
    )
    if replicas.local == 1:
        return rows

    def of_replica(number: tf.Tensor, read: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        first, last = replicas.share(per_batch, replicas.first + number)
        return tuple(part[first - begin : last - begin] for part in read)

    numbers = tf.data.Dataset.range(replicas.local)
    return rows.flat_map(lambda *read: numbers.map(lambda number: of_replica(number, read)))


def _cut(total: int, parts: int, part: int) -> tuple[int, int]:
    """The part-th of nearly equal parts."""
    return part * total // parts, (part + 1) * total // parts
