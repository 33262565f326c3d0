"""Searches of the inner maximization that use only builtin operations of TFLite.

Each equals the search of a neighborhood in `keras_srt.neighborhoods`. Random draws are inputs,
because TFLite has no builtin random operations. All shapes are static.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from keras_srt.core.tensorflow import tf

# Images [batch, height, width, channels] -> loss of each image [batch].
Loss = Callable[["tf.Tensor"], "tf.Tensor"]


def ascend(
    images: tf.Tensor,
    loss_fn: Loss,
    norm: str,
    num_steps: int,
    noise: tf.Tensor,
    epsilon: tf.Tensor,
    step_size: tf.Tensor,
) -> tf.Tensor:
    """Projected gradient ascent in a ball, as `neighborhoods.LInf` and `neighborhoods.L2`.

    Args:
        images: float32 [batch, height, width, channels] in [0, 1].
        loss_fn: Images -> loss of each image.
        norm: "linf" or "l2".
        num_steps: Gradient steps k.
        noise: Random start in units of ε, the shape of `images`; zeros start at the images.
        epsilon: Radius ε of the ball, in units of pixel values.
        step_size: Step size, in the same units.

    Returns:
        The perturbed images.
    """
    project, direction = (_project_linf, tf.sign) if norm == "linf" else (_project_l2, _unit)
    now = project(images, images + epsilon * noise, epsilon)
    for _ in range(num_steps):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(now)
            loss = loss_fn(now)
        moved = now + step_size * direction(tape.gradient(loss, now))
        now = project(images, moved, epsilon)
    return now


def _project_linf(images: tf.Tensor, moved: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
    low, high = tf.maximum(images - epsilon, 0.0), tf.minimum(images + epsilon, 1.0)
    return tf.minimum(tf.maximum(moved, low), high)


def _project_l2(images: tf.Tensor, moved: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
    perturbation = moved - images
    shrink = tf.minimum(1.0, _divide(epsilon, _length(perturbation)))
    return tf.minimum(tf.maximum(images + perturbation * shrink, 0.0), 1.0)


def _unit(gradient: tf.Tensor) -> tf.Tensor:
    return _divide(gradient, _length(gradient))


def _length(perturbation: tf.Tensor) -> tf.Tensor:
    """L2 norm of each image, [batch, 1, 1, 1]; squares of tiny gradients don't underflow."""
    largest = tf.reduce_max(tf.abs(perturbation), axis=[1, 2, 3], keepdims=True)
    squares = tf.square(_divide(perturbation, largest))
    return largest * tf.sqrt(tf.reduce_sum(squares, axis=[1, 2, 3], keepdims=True))


def _divide(value: tf.Tensor, by: tf.Tensor) -> tf.Tensor:
    """Return value / by, and 0 where `by` is 0; `tf.math.divide_no_nan` is no builtin."""
    is_zero = tf.equal(by, 0.0)
    return tf.where(is_zero, 0.0, value / tf.where(is_zero, 1.0, by))


def worst_transform(
    images: tf.Tensor, loss_fn: Loss, draws: tf.Tensor, limits: tf.Tensor, start_loss: tf.Tensor
) -> tf.Tensor:
    """Worst of k transforms for each image and of the image itself, as `neighborhoods.Spatial`.

    Args:
        images: float32 [batch, height, width, channels] in [0, 1].
        loss_fn: Images -> loss of each image.
        draws: float32 [k, batch, 3] in [-1, 1]: rotation, translation right and down, in units of
            `limits`.
        limits: float32 [3], degrees and pixels.
        start_loss: float32 [batch], the loss at `images`.

    Returns:
        The transformed images.
    """
    worst, highest = images, start_loss
    for draw in tf.unstack(draws):
        moved = rotate_and_translate(images, draw * limits)
        loss = loss_fn(moved)
        better = loss > highest
        worst = tf.where(better[:, None, None, None], moved, worst)
        highest = tf.where(better, loss, highest)
    return worst


def rotate_and_translate(images: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
    """Compute A(θ)x + B as `neighborhoods.geometry.rotate_and_translate`, by gathering pixels.

    Args:
        images: float32 [batch, height, width, channels], of a static shape.
        parameters: float32 [batch, 3]: degrees (positive is counterclockwise), pixels right,
            pixels down.

    Returns:
        float32, the shape of `images`.
    """
    number, height, width, channels = images.shape
    cos, sin = (f(parameters[:, :1] * (math.pi / 180.0)) for f in (tf.cos, tf.sin))
    center_x, center_y = (width - 1.0) / 2.0, (height - 1.0) / 2.0
    # Where each pixel of the result comes from: translate back, then rotate back.
    places = tf.range(height * width)
    x = tf.cast(places % width, tf.float32)[None] - (center_x + parameters[:, 1:2])
    y = tf.cast(places // width, tf.float32)[None] - (center_y + parameters[:, 2:])
    from_x, from_y = cos * x - sin * y + center_x, sin * x + cos * y + center_y
    left, top = tf.floor(from_x), tf.floor(from_y)
    pixels = tf.reshape(images, [number * height * width, channels])
    first = (tf.range(number) * (height * width))[:, None]

    def neighbor(column: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
        """The pixels of a column and a row, 0 outside of the image, times their weights."""
        weight = (1.0 - tf.abs(from_x - column)) * (1.0 - tf.abs(from_y - row))
        inside = (column >= 0.0) & (column < width) & (row >= 0.0) & (row < height)
        weight = tf.where(inside, weight, 0.0)
        column = tf.minimum(tf.maximum(column, 0.0), width - 1.0)
        row = tf.minimum(tf.maximum(row, 0.0), height - 1.0)
        index = first + tf.cast(row, tf.int32) * width + tf.cast(column, tf.int32)
        return weight[..., None] * tf.gather(pixels, index)

    moved = (
        neighbor(left, top)
        + neighbor(left + 1.0, top)
        + neighbor(left, top + 1.0)
        + neighbor(left + 1.0, top + 1.0)
    )
    return tf.reshape(moved, images.shape)
