"""Checks of data in a graph, whose messages reach the user as `InvalidSettings`."""

from __future__ import annotations

from typing import Any

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import tf

# How the messages of the checks begin.
LABELS, IMAGES = "labels: got", "images: got"
_ROUNDING = 1e-3


def checked(values: tf.Tensor, valid: tf.Tensor, message: list[Any]) -> tf.Tensor:
    """Return values unchanged, if they are valid.

    In a graph, others raise an `InvalidArgumentError`, see `refuse_invalid`. XLA leaves the check
    out.

    Args:
        values: Any tensor.
        valid: Bool scalar.
        message: Texts and scalars; the first begins with `LABELS` or `IMAGES`.

    Raises:
        InvalidSettings: The values are invalid, and TensorFlow runs eagerly.
    """
    if tf.executing_eagerly() and not valid:
        parts = [part if isinstance(part, str) else f"{part.numpy():g}" for part in message]
        raise InvalidSettings([" ".join(parts)])
    with tf.control_dependencies([tf.debugging.Assert(valid, message)]):
        return tf.identity(values)


def check_unit_range(images: tf.Tensor) -> tf.Tensor:
    """Return images; values outside of [0, 1] raise, see `checked`. NaN passes."""
    low, high = tf.reduce_min(images), tf.reduce_max(images)
    allowed = "in a batch; allowed: from 0 to 1 (divide images with values from 0 to 255 by 255)"
    message = [f"{IMAGES} values from", low, "to", high, allowed]
    return checked(images, ~((low < -_ROUNDING) | (high > 1 + _ROUNDING)), message)


def refuse_invalid(error: Exception) -> None:
    """Raise `InvalidSettings` if an error is that of `checked`."""
    for line in str(error).splitlines():
        for mark in (LABELS, IMAGES):
            if mark in line:
                message = line[line.index(mark) :].replace("[", "").replace("]", "")
                raise InvalidSettings([message.strip()]) from error
