"""One check of labels, for every function that takes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.graph_checks import LABELS, checked
from keras_srt.core.tensorflow import tf


def check_class_ids(labels: Any, num_classes: int | None = None, name: str = "labels") -> Any:
    """Return labels as int32 if all are class ids.

    Args:
        labels: Whole numbers of any numeric type, in an array of any shape.
        num_classes: Number of classes; None if it isn't known.
        name: Name of the labels in the message.

    Raises:
        InvalidSettings: A label is no whole number, negative or too large; names the first one.

    Example:
        >>> check_class_ids([0.0, 2.0], 3)
        array([0, 2], dtype=int32)
    """
    values = np.asarray(labels)
    if values.dtype.kind not in "iufb":
        raise InvalidSettings([f"{name}: got type {values.dtype}; {_allowed(num_classes)}"])
    valid = np.isfinite(values) & (values >= 0) & (values == np.floor(values))
    valid &= values < (np.iinfo(np.int32).max if num_classes is None else num_classes)
    if not valid.all():
        first = int(np.argmin(valid.reshape(-1)))
        raise InvalidSettings([_problem(name, values.reshape(-1)[first], first, num_classes)])
    return np.int32(values)


def assert_class_ids(labels: tf.Tensor, num_classes: int | None) -> tf.Tensor:
    """`check_class_ids` for tensors in a graph: int32 [n] of labels [n] or [n, 1].

    An invalid label raises an `InvalidArgumentError`, see `graph_checks.checked`.
    """
    flat = tf.reshape(labels, [-1])
    ids = tf.cast(flat, tf.int32)
    valid = (ids >= 0) & (tf.cast(ids, flat.dtype) == flat)
    if num_classes is not None:
        valid &= ids < num_classes
    first = tf.argmin(tf.cast(tf.concat([valid, [True]], 0), tf.int32))
    # Not indexed directly: a batch may be empty.
    found = tf.reduce_sum(tf.where(tf.range(tf.size(flat), dtype=tf.int64) == first, flat, 0))
    message = [LABELS, found, "at index", first, "of a batch;", _allowed(num_classes)]
    return checked(ids, tf.reduce_all(valid), message)


def _problem(name: str, value: Any, index: int, num_classes: int | None) -> str:
    return f"{name}: got {value} at index {index}; {_allowed(num_classes)}"


def _allowed(num_classes: int | None) -> str:
    last = "" if num_classes is None else f" to {num_classes - 1}"
    return f"allowed: class ids, whole numbers from 0{last}"
