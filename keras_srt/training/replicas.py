"""Reductions over the replicas of `tf.distribute` inside a training step.

With one replica, no collective operation runs. Counts are exchanged as float32, which every
device can reduce.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods.draws import Rows


def count() -> int:
    """The number of replicas that share the global batch."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def held_rows(counts: Mapping[str, tf.Tensor]) -> dict[str, Rows] | None:
    """The rows of the global batch that this replica holds.

    The rows of replica 0 come first, followed by those of replica 1, and so on.

    Args:
        counts: For each part of the batch, the number of images on this replica, int32 scalars.

    Returns:
        The rows of each part; None with one replica.

    Example:
        >>> import tensorflow as tf
        >>> held_rows({"labeled": tf.constant(3)}) is None
        True
    """
    if count() == 1:
        return None
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    own = tf.cast(tf.stack(list(counts.values())), tf.float32)
    # Each replica fills one row of a table of zeros; the sum holds the counts of all replicas.
    table = _sum_over_replicas(tf.one_hot(replica, count())[:, None] * own)
    first = tf.cast(tf.reduce_sum(table[:replica], axis=0), tf.int32)
    total = tf.cast(tf.reduce_sum(table, axis=0), tf.int32)
    return {
        name: Rows(first[index], tf.cast(here, tf.int32), total[index])
        for index, (name, here) in enumerate(counts.items())
    }


def average(losses: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """This replica's share of the mean of each loss over the global batch: Σ_replica losses / n.

    n is the number of values of that loss on all replicas. The shares of all replicas sum to the
    mean, and their gradients to its gradient, however unevenly the batch is divided.

    Args:
        losses: Per-example losses of several terms, float32 [images] each.

    Returns:
        A float32 scalar for each term.

    Example:
        >>> import tensorflow as tf
        >>> float(average([tf.constant([1.0, 2.0, 6.0])])[0])
        3.0
    """
    sizes = [tf.size(values) for values in losses]
    if count() > 1:
        summed = _sum_over_replicas(tf.cast(tf.stack(sizes), tf.float32))
        sizes = tf.unstack(tf.cast(summed, tf.int32))
    return [
        tf.nn.compute_average_loss(values, global_batch_size=size)
        for values, size in zip(losses, sizes, strict=True)
    ]


def total(shares: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Sum scalars over all replicas in one collective operation.

    Args:
        shares: Float32 scalars of this replica.

    Returns:
        The sums, equal on all replicas.

    Example:
        >>> import tensorflow as tf
        >>> float(total([tf.constant(2.0)])[0])
        2.0
    """
    if count() == 1:
        return list(shares)
    return tf.unstack(_sum_over_replicas(tf.stack(shares)))


def _sum_over_replicas(values: tf.Tensor) -> tf.Tensor:
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)
