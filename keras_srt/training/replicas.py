"""Inside a step: what a replica of `tf.distribute` needs to know of the global batch.

With one replica nothing is exchanged. The counts travel as float32, which every device can sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods.draws import Rows


def count() -> int:
    """How many replicas share the global batch."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def held_rows(counts: Mapping[str, tf.Tensor]) -> dict[str, Rows] | None:
    """Which rows of the global batch this replica holds.

    The rows of replica 0 come first, whatever its share is.

    Args:
        counts: int32 scalars, how many images of each part this replica has.

    Returns:
        The rows of each part; None where there is one replica.

    Example:
        >>> import tensorflow as tf
        >>> held_rows({"labeled": tf.constant(3)}) is None
        True
    """
    if count() == 1:
        return None
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    own = tf.cast(tf.stack(list(counts.values())), tf.float32)
    # Each replica fills in its line of a table of zeros.
    table = _sum_over_replicas(tf.one_hot(replica, count())[:, None] * own)
    first = tf.cast(tf.reduce_sum(table[:replica], axis=0), tf.int32)
    total = tf.cast(tf.reduce_sum(table, axis=0), tf.int32)
    return {
        name: Rows(first[index], tf.cast(here, tf.int32), total[index])
        for index, (name, here) in enumerate(counts.items())
    }


def average(losses: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Each loss's share in the mean over the global batch: Σ_here losses / n.

    n counts the images of all replicas that have this loss, each loss its own, so that the sum
    over replicas is the mean, and its gradient too, however uneven the shares are.

    Args:
        losses: of several terms, float32 [images] each.

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
    """Scalars of this replica, summed over all of them in one exchange.

    Args:
        shares: float32 scalars.

    Returns:
        As many float32 scalars, alike in all replicas.

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
