"""Batches of fixed size, a pure function of (seed, step), as a prefetching `tf.data`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_srt.checks import InvalidSettings
from keras_srt.lazy import tf


class BatchSizes(NamedTuple):
    """Images of a batch.

    Attributes:
        labeled: m_L.
        unlabeled: m_U.
    """

    labeled: int
    unlabeled: int


def batch_sizes(
    batch_size: int, num_labeled: int, num_unlabeled: int, labeled_per_batch: int | None = None
) -> BatchSizes:
    """Shares a batch out in proportion, m·|L|/(|L|+|U|) labeled (section 3.2 of the paper).

    Args:
        batch_size: m.
        num_labeled: |L|.
        num_unlabeled: |U|; 0 for objectives that use labeled images alone.
        labeled_per_batch: labeled images instead of the proportional number.

    Returns:
        The labeled and the unlabeled images of each batch.

    Raises:
        InvalidSettings: the proportional number is below one image, or the set number
            doesn't fit.

    Example:
        >>> batch_sizes(128, 10_000, 50_000)
        BatchSizes(labeled=21, unlabeled=107)
    """
    if num_unlabeled == 0:
        return BatchSizes(batch_size, 0)
    if labeled_per_batch is not None:
        if not 1 <= labeled_per_batch < batch_size:
            raise InvalidSettings(
                [
                    f"training.labeled_per_batch: got {labeled_per_batch}; allowed: a whole number "
                    f"from 1 to {batch_size - 1}, below training.batch_size"
                ]
            )
        return BatchSizes(labeled_per_batch, batch_size - labeled_per_batch)
    share = batch_size * num_labeled / (num_labeled + num_unlabeled)
    if share < 1:
        needed = -(-(num_labeled + num_unlabeled) // num_labeled)
        raise InvalidSettings(
            [
                f"training.batch_size: got {batch_size}, which holds {share:.2f} labeled images in "
                f"proportion; allowed: at least {needed}, or set training.labeled_per_batch"
            ]
        )
    labeled = min(round(share), batch_size - 1)
    return BatchSizes(labeled, batch_size - labeled)


class Augmentation(NamedTuple):
    """Random changes of training images, labeled and unlabeled alike.

    Attributes:
        pad: pixels of zeros around the image before a random crop back to its size.
        flip: whether half of the images are mirrored left-right.
    """

    pad: int = 0
    flip: bool = False


def augment(images: tf.Tensor, augmentation: Augmentation, seed: tf.Tensor) -> tf.Tensor:
    """Pad-crop and flip, drawn for each image.

    Args:
        images: [batch, height, width, channels].
        augmentation: what to do.
        seed: int32 [2].

    Returns:
        Images of the same shape and dtype.
    """
    count, height, width = images.shape[0], images.shape[1], images.shape[2]
    seeds = tf.random.experimental.stateless_split(seed, 3)
    if augmentation.pad:
        pad = augmentation.pad
        padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]])

        def offsets(its_seed: tf.Tensor, length: int) -> tf.Tensor:
            first = tf.random.stateless_uniform(
                [count, 1], its_seed, 0, 2 * pad + 1, dtype=tf.int32
            )
            return first + tf.range(length)[None]

        rows = tf.gather(padded, offsets(seeds[0], height), axis=1, batch_dims=1)
        images = tf.gather(rows, offsets(seeds[1], width), axis=2, batch_dims=1)
    if augmentation.flip:
        mirrored = tf.random.stateless_uniform([count, 1, 1, 1], seeds[2]) < 0.5
        images = tf.where(mirrored, images[:, :, ::-1], images)
    return images


def _draw(size: int, per_batch: int, step: tf.Tensor, seed: int, stream: int) -> tf.Tensor:
    """Positions of a batch's images: one shuffled pass after another, keyed by the pass."""
    position = step * per_batch + tf.range(per_batch, dtype=tf.int64)
    keys = tf.stack(
        [
            tf.fill([per_batch], tf.constant(seed, tf.int32)),
            tf.cast(position // size, tf.int32),
            tf.fill([per_batch], tf.constant(stream, tf.int32)),
        ],
        axis=1,
    )
    # The raw op, because `tf.random.experimental.index_shuffle` takes a single key only,
    # and a batch may end one pass and begin the next.
    return tf.raw_ops.RandomIndexShuffle(
        index=position % size, seed=keys, max_index=tf.constant(size - 1, tf.int64)
    )


def training_batches(
    labeled_images: np.ndarray,
    labels: np.ndarray,
    unlabeled_images: np.ndarray,
    sizes: BatchSizes,
    *,
    seed: int,
    first_step: int = 0,
    augmentation: Augmentation | None = None,
    pseudo_labels: np.ndarray | None = None,
) -> tf.data.Dataset:
    """Endless batches `{"labeled": (images, labels), "unlabeled": images}`.

    Batch number `step` depends on (seed, step) alone, so that training goes on after an
    interruption with the very images it would have seen. With no unlabeled images the
    key `unlabeled` is absent; with pseudo-labels there is a key `pseudo_labels`.

    Args:
        labeled_images: uint8 [|L|, height, width, channels].
        labels: int32 [|L|].
        unlabeled_images: uint8 [|U|, height, width, channels]; no labels enter here.
        sizes: images of a batch.
        seed: of order and augmentation.
        first_step: the number of the first batch.
        augmentation: random changes of the images, or None.
        pseudo_labels: int32 [|U|], a teacher's answers to the unlabeled images, or None.

    Returns:
        A prefetching dataset; images are float32 in [0, 1], labels int32.
    """
    # Constants outside the function, so that they are captured and not copied into it.
    known = tf.constant(labeled_images), tf.constant(labels, tf.int32)
    unknown = tf.constant(unlabeled_images) if sizes.unlabeled else None
    answers = tf.constant(pseudo_labels, tf.int32) if pseudo_labels is not None else None

    def batch(step: tf.Tensor) -> dict[str, object]:
        drawn = _draw(len(labeled_images), sizes.labeled, step, seed, stream=0)
        images = tf.gather(known[0], drawn)
        if unknown is not None:
            others = _draw(len(unlabeled_images), sizes.unlabeled, step, seed, stream=1)
            images = tf.concat([images, tf.gather(unknown, others)], axis=0)
        images = tf.ensure_shape(images, [sum(sizes), *labeled_images.shape[1:]])
        if augmentation is not None:
            images = augment(images, augmentation, tf.stack([seed, tf.cast(step, tf.int32)]))
        images = tf.cast(images, tf.float32) / 255.0
        made = {"labeled": (images[: sizes.labeled], tf.gather(known[1], drawn))}
        if unknown is not None:
            made["unlabeled"] = images[sizes.labeled :]
            if answers is not None:
                made["pseudo_labels"] = tf.gather(answers, others)
        return made

    steps = tf.data.Dataset.range(first_step, np.iinfo(np.int64).max)
    return steps.map(batch, num_parallel_calls=2, deterministic=True).prefetch(4)


def evaluation_batches(images: np.ndarray, labels: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """`(images, labels)` in order, float32 in [0, 1]; the last batch may be smaller."""
    dataset = tf.data.Dataset.from_tensor_slices((images, np.int32(labels))).batch(batch_size)
    return dataset.map(lambda x, y: (tf.cast(x, tf.float32) / 255.0, y)).prefetch(2)
