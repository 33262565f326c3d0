"""Training batches whose unlabeled images are read on demand.

The unlabeled records are divided into equal *lanes*, one per reader. A lane repeats endless
passes: each pass takes the lane's shards in random order, divides that sequence into blocks of
`shuffle_buffer // readers` records, and shuffles each block. The order depends only on (seed,
lane, pass, block), and shard lengths are known: training resumes at any step by skipping whole
shards and blocks.

Each lane supplies a fixed range of rows of every batch. A process opens only the lanes that
supply the rows of its replicas.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_srt.config.schema import AugmentationSettings
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import tf
from keras_srt.data.batches import (
    ONE_REPLICA,
    Balance,
    BatchSizes,
    Replicas,
    assemble_batch,
    batch_positions,
    element_numbers,
    make_augmenter,
    mark_infinite,
    pass_order,
    permute,
)
from keras_srt.data.index_ranges import IndexRanges
from keras_srt.data.record_reader import FOREVER, Reader
from keras_srt.data.records import Records
from keras_srt.data.source import Images


def shuffled_passes(
    reader: Reader, position: int, bound: int, seed: int, lane: int
) -> tf.data.Dataset:
    """Return the endless shuffled sequence of a lane's `(ordinal, record)`, from a position on.

    Args:
        reader: The reader of the lane.
        position: The number of records to skip.
        bound: The number of records in a block.
        seed: The seed of the order.
        lane: The number of the lane.

    Returns:
        An endless dataset of encoded records.
    """
    first_pass, done = divmod(position, reader.size)
    first_block = done // bound

    def one_pass(number: tf.Tensor) -> tf.data.Dataset:
        key = _fold(tf.stack([seed, lane]), number)
        block = tf.where(number == first_pass, tf.constant(first_block, tf.int64), 0)
        parts = tf.range(reader.num_parts, dtype=tf.int64)
        order = permute(parts, reader.num_parts, tf.concat([key, [0]], 0))
        blocks = reader.read(order, block * bound).batch(bound)
        # The next block is filled while the current one is consumed.
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
    """Settings of on-demand reading.

    Attributes:
        shuffle_buffer: The number of unlabeled records in the shuffle buffer.
        readers: The number of lanes.
    """

    shuffle_buffer: int
    readers: int = 1

    def check(self, sizes: BatchSizes) -> None:
        """Check the settings against the batch sizes.

        Raises:
            InvalidSettings: The buffer is smaller than a batch, or a reader would have no row.
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
                "unlabeled images of a batch, because each reader supplies some of them"
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
    augmentation: AugmentationSettings | None = None,
    pseudo_labels: np.ndarray | None = None,
    balance: Balance = False,
    replicas: Replicas = ONE_REPLICA,
) -> tf.data.Dataset:
    """Return batches as `training_batches` does, with unlabeled images that are read on demand.

    Args:
        labeled: The labeled images.
        records: The training records.
        unlabeled: The indices of the unlabeled records.
        sizes: The number of images per batch, with at least one unlabeled image.
        streaming: The reading settings.
        seed: The seed of order and augmentation.
        first_step: The number of the first batch.
        augmentation: The data augmentation, or None.
        pseudo_labels: The pseudo-labels of `unlabeled`, class ids int32 [|U|] or probabilities
            [|U|, classes], or None.
        balance: Whether the classes of the labeled images are balanced, see `pass_order`.
        replicas: The replicas that the batches are for.

    Returns:
        A prefetching dataset. It holds up to three times `shuffle_buffer` encoded records, in
        proportion to this process' rows.

    Raises:
        InvalidSettings: The settings do not fit the batch, or a replica would have no unlabeled
            image.
    """
    streaming.check(sizes)
    _check_replicas(sizes, replicas)
    known = tf.constant(labeled.images), tf.constant(labeled.labels, tf.int32)
    order = tf.constant(pass_order(labeled.labels, balance))
    targets = tf.constant(pseudo_labels) if pseudo_labels is not None else None
    others = _unlabeled_rows(
        records, unlabeled, sizes.unlabeled, streaming, seed, first_step, replicas
    )

    def batch(element: tf.Tensor, read: tuple[tf.Tensor, tf.Tensor]) -> dict[str, object]:
        step, replica = replicas.at(element)
        rows = replicas.rows(sizes.labeled, replica)
        drawn = batch_positions(len(order), sizes.labeled, rows, step, seed, stream=0)
        drawn = tf.gather(order, drawn)
        ordinals, images = read
        shape = [replicas.rows(sizes.unlabeled, replica).shape[0], *records.image_shape]
        augment_images = make_augmenter(augmentation, sizes, replicas, replica, seed, step)
        return assemble_batch(
            (tf.gather(known[0], drawn), tf.gather(known[1], drawn)),
            tf.ensure_shape(images, shape),
            None if targets is None else tf.gather(targets, tf.ensure_shape(ordinals, shape[:1])),
            augment_images,
        )

    numbered = tf.data.Dataset.zip((element_numbers(first_step, replicas), others))
    return mark_infinite(numbered.map(batch, num_parallel_calls=2, deterministic=True)).prefetch(2)


def _check_replicas(sizes: BatchSizes, replicas: Replicas) -> None:
    if sizes.unlabeled < replicas.total:
        raise InvalidSettings(
            [
                f"training.batch_size: got {sizes.unlabeled} unlabeled images in a step on "
                f"{replicas.total} replicas; allowed: at least one per replica, with "
                "data.shuffle_buffer"
            ]
        )


def _unlabeled_rows(
    records: Records,
    unlabeled: IndexRanges,
    per_batch: int,
    streaming: Streaming,
    seed: int,
    first_step: int,
    replicas: Replicas,
) -> tf.data.Dataset:
    """`(ordinals, images)`, one element per step and local replica."""
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
            # Drop the rows of other processes before decoding.
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
    return rows if replicas.local == 1 else _per_replica(rows, per_batch, begin, replicas)


def _per_replica(
    rows: tf.data.Dataset, per_batch: int, begin: int, replicas: Replicas
) -> tf.data.Dataset:
    """Divide steps, whose rows start at `begin`, into one element per local replica."""

    def of_replica(number: tf.Tensor, read: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        first, last = replicas.share(per_batch, replicas.first + number)
        return tuple(part[first - begin : last - begin] for part in read)

    numbers = tf.data.Dataset.range(replicas.local)
    return rows.flat_map(lambda *read: numbers.map(lambda number: of_replica(number, read)))


def _cut(total: int, parts: int, part: int) -> tuple[int, int]:
    """The bounds of a part when `total` items are divided into nearly equal parts."""
    return part * total // parts, (part + 1) * total // parts
