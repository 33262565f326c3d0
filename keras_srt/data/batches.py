"""Training batches of fixed size, as a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from keras_srt.config.schema import AugmentationSettings
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import tf
from keras_srt.data.augmentation import augment

Balance = Literal["auto"] | bool

# With "auto", the classes are balanced if their sizes differ by more than this factor.
_UNEVEN = 3


class BatchSizes(NamedTuple):
    """The number of images per batch.

    Attributes:
        labeled: Labeled images.
        unlabeled: Unlabeled images.
    """

    labeled: int
    unlabeled: int


def batch_sizes(
    batch_size: int, num_labeled: int, num_unlabeled: int, labeled_per_batch: int | None = None
) -> BatchSizes:
    """Divide a batch of m images in proportion: m·|L|/(|L|+|U|) labeled ones.

    Args:
        batch_size: m.
        num_labeled: |L|.
        num_unlabeled: |U|; 0 for objectives that use labeled images only.
        labeled_per_batch: A fixed number of labeled images; None for the proportional number.

    Returns:
        The number of labeled and of unlabeled images per batch.

    Raises:
        InvalidSettings: The proportional number is below one image, or the fixed number does not
            fit into the batch.

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
                f"training.batch_size: got {batch_size}, for {share:.2f} labeled images in "
                f"proportion; allowed: at least {needed}, or set training.labeled_per_batch"
            ]
        )
    labeled = min(round(share), batch_size - 1)
    return BatchSizes(labeled, batch_size - labeled)


class Replicas(NamedTuple):
    """The division of global batches among replicas.

    Replica r of R gets the rows [r·n // R, (r+1)·n // R) of the n labeled images of a batch, and
    the same share of the unlabeled images: 21 labeled images on 2 replicas become 10 and 11.

    Attributes:
        total: R, the number of replicas in all processes.
        first: The number of this process' first replica.
        local: The number of this process' replicas; its dataset has one element per step and
            local replica.

    Example:
        >>> Replicas(total=2).share(21, 0), Replicas(total=2).share(21, 1)
        ((0, 10), (10, 21))
    """

    total: int = 1
    first: int = 0
    local: int = 1

    def share(self, count: int, replica: int) -> tuple[int, int]:
        """Return the first row of a replica, and its last row plus one, as ints or tensors."""
        return replica * count // self.total, (replica + 1) * count // self.total

    def at(self, element: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | int]:
        """Return the step and the replica of an element; the replica is an int if `local` is 1."""
        step = element // self.local
        return step, self.first if self.local == 1 else self.first + element % self.local

    def rows(self, count: int, replica: tf.Tensor | int) -> tf.Tensor:
        """Return the rows of a replica, int64 [n]; n is static if it is equal for all replicas."""
        begin, end = self.share(count, replica)
        own = count // self.total if count % self.total == 0 else end - begin
        return tf.cast(begin, tf.int64) + tf.range(tf.cast(own, tf.int64))


# A single replica gets whole batches.
ONE_REPLICA = Replicas()


def permute(index: tf.Tensor, size: tf.Tensor | int, keys: tf.Tensor) -> tf.Tensor:
    """Map indices by random permutations of 0 … size - 1.

    Args:
        index: int64 [n], from 0 to size - 1.
        size: The size of the permutations.
        keys: int32 [n, 3], the key of each index' permutation, or [3] for one permutation.

    Returns:
        int64 [n].
    """
    # `tf.random.experimental.index_shuffle` takes a single key, but a batch can end one pass and
    # begin the next.
    last = tf.cast(size, tf.int64) - 1
    return tf.raw_ops.RandomIndexShuffle(index=index, seed=keys, max_index=last)


def batch_positions(
    size: int, per_batch: int, rows: tf.Tensor, step: tf.Tensor, seed: int, stream: int
) -> tf.Tensor:
    """Return the positions of a batch's images in an endless sequence of shuffled passes.

    Args:
        size: The number of images in a pass.
        per_batch: The number of images in the global batch.
        rows: int64 [n], the requested rows of the global batch.
        step: int64 scalar, the number of the batch.
        seed: The seed of the order.
        stream: 0 for labeled images, 1 for unlabeled images.

    Returns:
        int64 [n].
    """
    count = tf.shape(rows)[0]
    padded = not rows.shape[0]
    if padded:
        # A replica can have no row, but the op does not accept an empty list.
        rows = tf.concat([rows, tf.zeros([1], tf.int64)], axis=0)
    position = step * per_batch + rows
    passes = tf.cast(position // size, tf.int32)
    keys = tf.stack([tf.fill(tf.shape(rows), seed), passes, tf.fill(tf.shape(rows), stream)], 1)
    drawn = permute(position % size, size, keys)
    return drawn[:count] if padded else drawn


def pass_order(labels: np.ndarray, balance: Balance) -> np.ndarray:
    """Return the rows of a pass over the labeled images.

    Args:
        labels: int32 [n].
        balance: Whether the images of small classes are repeated, so that every class has as many
            rows as the largest; "auto" if the sizes of two classes differ by more than 3:1.

    Returns:
        int64 [at least n].

    Example:
        >>> pass_order(np.int32([0, 0, 0, 0, 1]), "auto")
        array([0, 1, 2, 3, 4, 4, 4, 4])
    """
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if not balance or (balance == "auto" and counts.max() <= _UNEVEN * counts.min()):
        return np.arange(len(labels))
    own = [np.flatnonzero(inverse == number) for number in range(len(counts))]
    return np.sort(np.concatenate([np.resize(rows, counts.max()) for rows in own]))


def assemble_batch(
    labeled: tuple[tf.Tensor, tf.Tensor],
    unlabeled: tf.Tensor | None,
    pseudo_labels: tf.Tensor | None,
    augment_images: Callable[[tf.Tensor], tf.Tensor],
) -> dict[str, object]:
    """Assemble a training batch.

    Args:
        labeled: uint8 images and int32 labels.
        unlabeled: uint8 images, or None.
        pseudo_labels: The pseudo-labels of `unlabeled`, or None.
        augment_images: The augmentation of the uint8 images, labeled ones first.

    Returns:
        `{"labeled": (images, labels), …}`; images are float32 in [0, 1].
    """
    images, labels = labeled
    count = tf.shape(images)[0] if images.shape[0] is None else images.shape[0]
    if unlabeled is not None:
        images = tf.concat([images, unlabeled], axis=0)
    images = tf.cast(augment_images(images), tf.float32) / 255.0
    batch: dict[str, object] = {"labeled": (images[:count], labels)}
    if unlabeled is not None:
        batch["unlabeled"] = images[count:]
        if pseudo_labels is not None:
            batch["pseudo_labels"] = pseudo_labels
    return batch


def training_batches(
    labeled_images: np.ndarray,
    labels: np.ndarray,
    unlabeled_images: np.ndarray,
    sizes: BatchSizes,
    *,
    seed: int,
    first_step: int = 0,
    augmentation: AugmentationSettings | None = None,
    pseudo_labels: np.ndarray | None = None,
    balance: Balance = False,
    replicas: Replicas = ONE_REPLICA,
) -> tf.data.Dataset:
    """Return endless batches `{"labeled": (images, labels), "unlabeled": images}`.

    Batch number `step` depends on (seed, step) only, so a resumed training sees the same images.
    The key `unlabeled` is absent without unlabeled images; the key `pseudo_labels` is present
    with pseudo-labels. With several local replicas, each step has one element per replica.

    Args:
        labeled_images: uint8 [|L|, height, width, channels].
        labels: int32 [|L|].
        unlabeled_images: uint8 [|U|, height, width, channels].
        sizes: The number of images per batch.
        seed: The seed of order and augmentation.
        first_step: The number of the first batch.
        augmentation: The data augmentation, or None.
        pseudo_labels: The pseudo-labels of the unlabeled images, class ids int32 [|U|] or
            probabilities [|U|, classes], or None.
        balance: Whether the classes of the labeled images are balanced, see `pass_order`.
        replicas: The replicas that the batches are for.

    Returns:
        A prefetching dataset; images are float32 in [0, 1], labels int32.
    """
    # Constants outside `batch` are captured by its graph instead of copied into it.
    known = tf.constant(labeled_images), tf.constant(labels, tf.int32)
    order = tf.constant(pass_order(labels, balance))
    unknown = tf.constant(unlabeled_images) if sizes.unlabeled else None
    targets = tf.constant(pseudo_labels) if pseudo_labels is not None else None

    def batch(element: tf.Tensor) -> dict[str, object]:
        step, replica = replicas.at(element)
        rows = replicas.rows(sizes.labeled, replica)
        drawn = batch_positions(len(order), sizes.labeled, rows, step, seed, stream=0)
        drawn = tf.gather(order, drawn)
        labeled = tf.gather(known[0], drawn), tf.gather(known[1], drawn)
        others = pseudo = None
        if unknown is not None:
            more = replicas.rows(sizes.unlabeled, replica)
            chosen = batch_positions(
                len(unlabeled_images), sizes.unlabeled, more, step, seed, stream=1
            )
            others = tf.gather(unknown, chosen)
            pseudo = None if targets is None else tf.gather(targets, chosen)
        augment_images = make_augmenter(augmentation, sizes, replicas, replica, seed, step)
        return assemble_batch(labeled, others, pseudo, augment_images)

    steps = element_numbers(first_step, replicas)
    return mark_infinite(steps.map(batch, num_parallel_calls=2, deterministic=True)).prefetch(4)


def element_numbers(first_step: int, replicas: Replicas) -> tf.data.Dataset:
    """Return the numbers of the elements from a step on; see `Replicas.at`."""
    return tf.data.Dataset.range(first_step * replicas.local, np.iinfo(np.int64).max)


def mark_infinite(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Declare a dataset infinite, so that replicas need not agree on its end before each step."""
    return batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))


def make_augmenter(
    augmentation: AugmentationSettings | None,
    sizes: BatchSizes,
    replicas: Replicas,
    replica: tf.Tensor | int,
    seed: int,
    step: tf.Tensor,
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the augmentation of a replica's images at a step; the identity for None."""
    if augmentation is None:
        return lambda images: images
    rows = [replicas.rows(sizes.labeled, replica)]
    rows.append(sizes.labeled + replicas.rows(sizes.unlabeled, replica))
    step_seed = tf.stack([seed, tf.cast(step, tf.int32)])
    return lambda images: augment(images, augmentation, step_seed, tf.concat(rows, 0), sum(sizes))


def evaluation_batches(images: np.ndarray, labels: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """Return batches `(images, labels)` in order, float32 in [0, 1]; the last may be smaller."""
    dataset = tf.data.Dataset.from_tensor_slices((images, np.int32(labels))).batch(batch_size)
    return dataset.map(lambda x, y: (tf.cast(x, tf.float32) / 255.0, y)).prefetch(2)
