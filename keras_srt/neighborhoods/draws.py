"""Random draws for the rows of a batch that don't depend on the number of replicas.

A draw is a function of the seed and the row in the *global* batch. A replica draws for all rows
and keeps its own, which is cheap compared with a pass through a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from keras_srt.core.tensorflow import tf


class Rows(NamedTuple):
    """The contiguous rows of a global batch that a replica holds.

    Attributes:
        first: int32 scalar, index of the first row.
        size: int32 scalar, number of rows.
        total: int32 scalar, number of rows in the global batch.
    """

    first: int | tf.Tensor
    size: int | tf.Tensor
    total: int | tf.Tensor


class RowSeed(NamedTuple):
    """A seed for some rows of a global batch; with one replica, a seed is int32 [2].

    Attributes:
        key: int32 [2], the same on all replicas.
        rows: int32 [n], the rows to keep.
        total: int32 scalar, the number of rows to draw.
    """

    key: tf.Tensor
    rows: tf.Tensor
    total: int | tf.Tensor


Seed: TypeAlias = "tf.Tensor | RowSeed"


def for_rows(seed: tf.Tensor, parts: Sequence[Rows]) -> RowSeed:
    """Make a seed for images that are concatenated from parts of several global batches.

    A single device would concatenate the complete parts in the same order.

    Args:
        seed: int32 [2], the same on all replicas.
        parts: The rows of each part that this replica holds.

    Returns:
        A seed for `uniform`, `normal`, `fold` and `split`.

    Example:
        >>> import tensorflow as tf
        >>> seed = for_rows(tf.constant([1, 2]), [Rows(1, 2, 3), Rows(2, 2, 4)])
        >>> seed.rows.numpy(), seed.total
        (array([1, 2, 5, 6], dtype=int32), 7)
    """
    rows, offset = [], 0
    for part in parts:
        rows.append(offset + part.first + tf.range(part.size))
        offset = offset + part.total
    return RowSeed(seed, tf.concat(rows, axis=0), offset)


def fold(seed: Seed, number: int | tf.Tensor) -> Seed:
    """Derive a new seed from a seed and a number, for independent draws."""
    if isinstance(seed, RowSeed):
        return seed._replace(key=fold(seed.key, number))
    return tf.random.experimental.stateless_fold_in(seed, number)


def split(seed: Seed, count: int) -> list[Seed]:
    """Derive several seeds from one seed."""
    if isinstance(seed, RowSeed):
        return [seed._replace(key=key) for key in split(seed.key, count)]
    return tf.unstack(tf.random.experimental.stateless_split(seed, count))


def uniform(
    shape: Sequence[int | tf.Tensor] | tf.Tensor,
    seed: Seed,
    low: float = 0.0,
    high: float = 1.0,
    dtype: tf.DType | None = None,
) -> tf.Tensor:
    """Draw uniformly from [low, high).

    Args:
        shape: Shape of the result; the first dimension is the row.
        seed: int32 [2], or a `RowSeed`.
        low: Lower bound, included.
        high: Upper bound, excluded.
        dtype: A float type; float32 if None.

    Returns:
        A tensor of this shape and dtype.

    Example:
        >>> import tensorflow as tf
        >>> whole = uniform([5, 2], tf.constant([1, 2]))
        >>> part = uniform([2, 2], for_rows(tf.constant([1, 2]), [Rows(3, 2, 5)]))
        >>> bool(tf.reduce_all(part == whole[3:]))
        True
    """
    dtype = tf.float32 if dtype is None else dtype
    if isinstance(seed, RowSeed):
        return tf.gather(uniform(_whole(shape, seed), seed.key, low, high, dtype), seed.rows)
    return tf.random.stateless_uniform(shape, seed, low, high, dtype)


def normal(
    shape: Sequence[int | tf.Tensor] | tf.Tensor, seed: Seed, dtype: tf.DType | None = None
) -> tf.Tensor:
    """Draw from the standard normal distribution; see `uniform` for the arguments."""
    dtype = tf.float32 if dtype is None else dtype
    if isinstance(seed, RowSeed):
        return tf.gather(normal(_whole(shape, seed), seed.key, dtype), seed.rows)
    return tf.random.stateless_normal(shape, seed, dtype=dtype)


def _whole(shape: Sequence[int | tf.Tensor] | tf.Tensor, seed: RowSeed) -> tf.Tensor:
    """Return the shape of the draws for the global batch."""
    return tf.concat([[seed.total], tf.convert_to_tensor(shape)[1:]], axis=0)
