"""Batches of fixed size, a pure function of (seed, step), as a prefetching `tf.data`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import tf


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


class Replicas(NamedTuple):
    """Which rows of the global batches a process makes.

    Replica r of R gets the rows [r·n // R, (r+1)·n // R) of the n labeled images of a batch, and
    likewise of the unlabeled ones: 21 labeled images on 2 replicas are 10 and 11.

    Attributes:
        total: replicas of all processes together, R.
        first: number of this process' first replica.
        local: replicas of this process; a producer yields, for each step, as many elements.

    Example:
        >>> Replicas(total=2).share(21, 0), Replicas(total=2).share(21, 1)
        ((0, 10), (10, 21))
    """

    total: int = 1
    first: int = 0
    local: int = 1

    def share(self, count: int, replica: int) -> tuple[int, int]:
        """The first row of a replica, and the one after its last; ints or tensors alike."""
        return replica * count // self.total, (replica + 1) * count // self.total

    def at(self, element: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | int]:
        """Step and replica of an element; the replica is an int where there is only one."""
        step = element // self.local
        return step, self.first if self.local == 1 else self.first + element % self.local

    def rows(self, count: int, replica: tf.Tensor | int) -> tf.Tensor:
        """The rows of a replica, int64; of static shape where all replicas have equally many."""
        begin, end = self.share(count, replica)
        own = count // self.total if count % self.total == 0 else end - begin
        return tf.cast(begin, tf.int64) + tf.range(tf.cast(own, tf.int64))


# One process with one replica makes whole batches.
ONE_REPLICA = Replicas()


def augment(
    images: tf.Tensor,
    augmentation: Augmentation,
    seed: tf.Tensor,
    rows: tf.Tensor | None = None,
    total: int | None = None,
) -> tf.Tensor:
    """Pad-crop and flip, drawn for each image.

    Args:
        images: [batch, height, width, channels].
        augmentation: what to do.
        seed: int32 [2].
        rows: int64 [batch], where the images stand in the global batch that the draws are
            made for; None where they are all of it.
        total: images of the global batch, with `rows`.

    Returns:
        Images of the same shape and dtype.
    """
    height, width = images.shape[1], images.shape[2]
    count = images.shape[0] if rows is None else total
    seeds = tf.random.experimental.stateless_split(seed, 3)

    def own(drawn: tf.Tensor) -> tf.Tensor:
        # Drawn for the whole batch, so that any number of replicas sees the same images.
        return drawn if rows is None else tf.gather(drawn, rows)

    if augmentation.pad:
        pad = augmentation.pad
        padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]])

        def offsets(its_seed: tf.Tensor, length: int) -> tf.Tensor:
            first = tf.random.stateless_uniform(
                [count, 1], its_seed, 0, 2 * pad + 1, dtype=tf.int32
            )
            return own(first) + tf.range(length)[None]

        across = tf.gather(padded, offsets(seeds[0], height), axis=1, batch_dims=1)
        images = tf.gather(across, offsets(seeds[1], width), axis=2, batch_dims=1)
    if augmentation.flip:
        mirrored = own(tf.random.stateless_uniform([count, 1, 1, 1], seeds[2])) < 0.5
        images = tf.where(mirrored, images[:, :, ::-1], images)
    return images


def permute(index: tf.Tensor, size: tf.Tensor | int, keys: tf.Tensor) -> tf.Tensor:
    """Where a random permutation of `size` places puts an index.

    Args:
        index: int64 [n], from 0 to size - 1.
        size: of the permutation.
        keys: int32 [n, 3], each index' own permutation, or [3] for all.

    Returns:
        int64 [n].
    """
    # The raw op, because `tf.random.experimental.index_shuffle` takes a single key only,
    # and a batch may end one pass and begin the next.
    last = tf.cast(size, tf.int64) - 1
    return tf.raw_ops.RandomIndexShuffle(index=index, seed=keys, max_index=last)


def batch_positions(
    size: int, per_batch: int, rows: tf.Tensor, step: tf.Tensor, seed: int, stream: int
) -> tf.Tensor:
    """Positions of a batch's images: one shuffled pass after another, keyed by the pass.

    Args:
        size: images of a pass.
        per_batch: images of the global batch.
        rows: int64 [n], rows of the global batch that are wanted.
        step: int64 scalar, number of the batch.
        seed: of the order.
        stream: 0 for labeled images, 1 for unlabeled ones.

    Returns:
        int64 [n].
    """
    count = tf.shape(rows)[0]
    padded = not rows.shape[0]
    if padded:
        # A replica may have no row of a kind, and the op takes no empty list.
        rows = tf.concat([rows, tf.zeros([1], tf.int64)], axis=0)
    position = step * per_batch + rows
    passes = tf.cast(position // size, tf.int32)
    keys = tf.stack([tf.fill(tf.shape(rows), seed), passes, tf.fill(tf.shape(rows), stream)], 1)
    drawn = permute(position % size, size, keys)
    return drawn[:count] if padded else drawn


def assemble_batch(
    labeled: tuple[tf.Tensor, tf.Tensor],
    unlabeled: tf.Tensor | None,
    pseudo_labels: tf.Tensor | None,
    augmented: Callable[[tf.Tensor], tf.Tensor],
) -> dict[str, object]:
    """A batch in the form that training takes.

    Args:
        labeled: uint8 images and int32 labels.
        unlabeled: uint8 images, or None.
        pseudo_labels: int32, or None.
        augmented: uint8 images of both kinds, labeled ones first -> changed ones.

    Returns:
        `{"labeled": (images, labels), …}`; images are float32 in [0, 1].
    """
    images, labels = labeled
    count = tf.shape(images)[0] if images.shape[0] is None else images.shape[0]
    if unlabeled is not None:
        images = tf.concat([images, unlabeled], axis=0)
    images = tf.cast(augmented(images), tf.float32) / 255.0
    made: dict[str, object] = {"labeled": (images[:count], labels)}
    if unlabeled is not None:
        made["unlabeled"] = images[count:]
        if pseudo_labels is not None:
            made["pseudo_labels"] = pseudo_labels
    return made


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
    replicas: Replicas = ONE_REPLICA,
) -> tf.data.Dataset:
    """Endless batches `{"labeled": (images, labels), "unlabeled": images}`.

    Batch number `step` depends on (seed, step) alone, so that training goes on after an
    interruption with the very images it would have seen. With no unlabeled images the
    key `unlabeled` is absent; with pseudo-labels there is a key `pseudo_labels`. A process
    with several replicas gets, for each step, an element for each of them.

    Args:
        labeled_images: uint8 [|L|, height, width, channels].
        labels: int32 [|L|].
        unlabeled_images: uint8 [|U|, height, width, channels]; no labels enter here.
        sizes: images of a batch.
        seed: of order and augmentation.
        first_step: the number of the first batch.
        augmentation: random changes of the images, or None.
        pseudo_labels: int32 [|U|], a teacher's answers to the unlabeled images, or None.
        replicas: whose rows of the batches are made.

    Returns:
        A prefetching dataset; images are float32 in [0, 1], labels int32.
    """
    # Constants outside the function, so that they are captured and not copied into it.
    known = tf.constant(labeled_images), tf.constant(labels, tf.int32)
    unknown = tf.constant(unlabeled_images) if sizes.unlabeled else None
    answers = tf.constant(pseudo_labels, tf.int32) if pseudo_labels is not None else None

    def batch(element: tf.Tensor) -> dict[str, object]:
        step, replica = replicas.at(element)
        rows = replicas.rows(sizes.labeled, replica)
        drawn = batch_positions(len(labeled_images), sizes.labeled, rows, step, seed, stream=0)
        labeled = tf.gather(known[0], drawn), tf.gather(known[1], drawn)
        others = pseudo = None
        if unknown is not None:
            more = replicas.rows(sizes.unlabeled, replica)
            chosen = batch_positions(
                len(unlabeled_images), sizes.unlabeled, more, step, seed, stream=1
            )
            others = tf.gather(unknown, chosen)
            pseudo = None if answers is None else tf.gather(answers, chosen)
        augmented = make_augmenter(augmentation, sizes, replicas, replica, seed, step)
        return assemble_batch(labeled, others, pseudo, augmented)

    steps = element_numbers(first_step, replicas)
    return mark_infinite(steps.map(batch, num_parallel_calls=2, deterministic=True)).prefetch(4)


def element_numbers(first_step: int, replicas: Replicas) -> tf.data.Dataset:
    """Numbers of the elements from a step on; `Replicas.at` says which batch each is of."""
    return tf.data.Dataset.range(first_step * replicas.local, np.iinfo(np.int64).max)


def mark_infinite(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Says that they don't end: else replicas ask each other before each step whether they did."""
    return batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))


def make_augmenter(
    augmentation: Augmentation | None,
    sizes: BatchSizes,
    replicas: Replicas,
    replica: tf.Tensor | int,
    seed: int,
    step: tf.Tensor,
) -> Callable[[tf.Tensor], tf.Tensor]:
    """The random changes of a replica's images at a step; nothing with `augmentation` None."""
    if augmentation is None:
        return lambda images: images
    rows = [replicas.rows(sizes.labeled, replica)]
    rows.append(sizes.labeled + replicas.rows(sizes.unlabeled, replica))
    its_seed = tf.stack([seed, tf.cast(step, tf.int32)])
    return lambda images: augment(images, augmentation, its_seed, tf.concat(rows, 0), sum(sizes))


def evaluation_batches(images: np.ndarray, labels: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """`(images, labels)` in order, float32 in [0, 1]; the last batch may be smaller."""
    dataset = tf.data.Dataset.from_tensor_slices((images, np.int32(labels))).batch(batch_size)
    return dataset.map(lambda x, y: (tf.cast(x, tf.float32) / 255.0, y)).prefetch(2)
