"""Random draws for the rows of a batch, the same on any number of replicas.

A draw is a function of the seed and the row of the *global* batch. A replica that holds some
rows draws for all of them and keeps its own, which costs little next to a pass through a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from keras_srt.core.tensorflow import tf


class Rows(NamedTuple):
    """The rows of a global batch that a replica holds, a range.

    Attributes:
        first: int32 scalar, the first of them.
        size: int32 scalar, how many.
        total: int32 scalar, rows of the global batch.
    """

    first: int | tf.Tensor
    size: int | tf.Tensor
    total: int | tf.Tensor


class RowSeed(NamedTuple):
    """A seed for some rows of a global batch; where there is one replica a seed is int32 [2].

    Attributes:
        key: int32 [2], the same in all replicas.
        rows: int32 [n], the rows of the draws that are kept.
        total: int32 scalar, how many rows are drawn.
    """

    key: tf.Tensor
    rows: tf.Tensor
    total: int | tf.Tensor


Seed: TypeAlias = "tf.Tensor | RowSeed"


def for_rows(seed: tf.Tensor, parts: Sequence[Rows]) -> RowSeed:
    """The seed of draws for images that are put together from several parts.

    One device holds the same parts whole, one after the other, and draws for all.

    Args:
        seed: int32 [2], the same in all replicas.
        parts: what a replica has of each part.

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
    """A new seed from a seed and a number, so that draws don't repeat each other."""
    if isinstance(seed, RowSeed):
        return seed._replace(key=fold(seed.key, number))
    return tf.random.experimental.stateless_fold_in(seed, number)


def split(seed: Seed, count: int) -> list[Seed]:
    """Several seeds from one."""
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
    """Uniform draws in [low, high).

    Args:
        shape: of the result; its first dimension are rows.
        seed: int32 [2], or for some rows of a global batch.
        low: the least.
        high: above the largest.
        dtype: a float type; float32 if None.

    Returns:
        `dtype`, of that shape.

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
    """Draws of the standard normal distribution; arguments as for `uniform`."""
    dtype = tf.float32 if dtype is None else dtype
    if isinstance(seed, RowSeed):
        return tf.gather(normal(_whole(shape, seed), seed.key, dtype), seed.rows)
    return tf.random.stateless_normal(shape, seed, dtype=dtype)


def _whole(shape: Sequence[int | tf.Tensor] | tf.Tensor, seed: RowSeed) -> tf.Tensor:
    """The shape of the draws for the global batch."""
    return tf.concat([[seed.total], tf.convert_to_tensor(shape)[1:]], axis=0)
