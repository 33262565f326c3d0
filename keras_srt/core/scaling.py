"""Powers of two, which scale floating-point numbers without rounding."""

from __future__ import annotations

from keras_srt.core.tensorflow import tf

_LEAST, _LARGEST = 2.0**-100, 2.0**100
_EXPONENT_BITS = 0x7F800000


def power_of_two(values: tf.Tensor) -> tf.Tensor:
    """Largest powers of two up to positive values: float32 without its mantissa.

    Args:
        values: float32; bounded to 2^-100 … 2^100, so that the inverse is finite, too.

    Returns:
        float32 of the shape of `values`.

    Example:
        >>> power_of_two(tf.constant([1.0, 3.9, 0.3])).numpy()
        array([1.  , 2.  , 0.25], dtype=float32)
    """
    bits = tf.bitcast(tf.clip_by_value(values, _LEAST, _LARGEST), tf.int32)
    return tf.bitcast(tf.bitwise.bitwise_and(bits, _EXPONENT_BITS), tf.float32)
