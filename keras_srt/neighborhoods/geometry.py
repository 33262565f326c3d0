"""Rotation and translation of images; the only module that uses TensorFlow Addons."""

from __future__ import annotations

import importlib.util
import math
import warnings

from keras_srt.core.tensorflow import tf


def _projective_transform(images: tf.Tensor, transforms: tf.Tensor) -> tf.Tensor:
    if importlib.util.find_spec("tensorflow_addons") is None:
        return _by_tensorflow(images, transforms)
    return _by_addons(images, transforms)


def _by_addons(images: tf.Tensor, transforms: tf.Tensor) -> tf.Tensor:
    with warnings.catch_warnings():
        # Users of this package can't act on the end-of-life notice of TensorFlow Addons.
        warnings.filterwarnings("ignore", message=r"\s*TensorFlow Addons \(TFA\) has ended")
        import tensorflow_addons as tfa
    return tfa.image.transform(
        images, transforms, interpolation="BILINEAR", fill_mode="constant", fill_value=0.0
    )


def _by_tensorflow(images: tf.Tensor, transforms: tf.Tensor) -> tf.Tensor:
    """Call the op behind TensorFlow Addons, which is not available on Python 3.12 and later."""
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def rotate_and_translate(images: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
    """Compute A(θ)x + B: rotate each image about its center, then translate it.

    Both are one bilinear interpolation; pixels from outside the image are 0.

    Args:
        images: float32 [batch, height, width, channels].
        parameters: float32 [batch, 3]: degrees (positive is counterclockwise),
            pixels to the right, pixels down.

    Returns:
        float32, the shape of `images`.

    Example:
        >>> import tensorflow as tf
        >>> row = tf.reshape([1.0, 2.0, 3.0], [1, 1, 3, 1])
        >>> tf.squeeze(rotate_and_translate(row, tf.constant([[0.0, 1.0, 0.0]]))).numpy()
        array([0., 1., 2.], dtype=float32)
    """
    angle = parameters[:, 0] * (math.pi / 180.0)
    right, down = parameters[:, 1], parameters[:, 2]
    shape = tf.cast(tf.shape(images), tf.float32)
    center_x, center_y = (shape[2] - 1.0) / 2.0, (shape[1] - 1.0) / 2.0
    cos, sin = tf.cos(angle), tf.sin(angle)
    # The op maps output to input: translate back, then rotate back about the center.
    from_x, from_y = center_x + right, center_y + down
    zeros = tf.zeros_like(angle)
    transforms = tf.stack(
        [
            cos,
            -sin,
            center_x - cos * from_x + sin * from_y,
            sin,
            cos,
            center_y - sin * from_x - cos * from_y,
            zeros,
            zeros,
        ],
        axis=1,
    )
    return _projective_transform(images, transforms)
