"""Sparse perturbations: the L0 ball, in which a few pixels change arbitrarily."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import numpy as np
from typing_extensions import override

from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import draws
from keras_srt.neighborhoods.draws import Seed
from keras_srt.neighborhoods.gradient_ascent import GradientAscent
from keras_srt.neighborhoods.lp import LpBall
from keras_srt.neighborhoods.solver import Scale


@component
class L0(LpBall):
    """The L0 ball: at most ε pixels change, each to any color in [0, 1].

    A step is step_size·d·g/‖g‖₁ for a gradient g of d values, so step_size is the mean
    absolute change. The projection keeps the ε pixels that matter most. A pixel counts once,
    however many of its channels change.
    Source: PGD₀ of Croce & Hein 2019 (Sparse and imperceivable adversarial attacks), section 3.1.

    Args:
        epsilon: ε, the number of pixels that may change; rounded down.
        num_steps: Gradient steps k.
        step_size: Mean absolute change of the pixel values in a step, before the projection;
            by default 0.15, the value of the paper on MNIST and CIFAR-10.
        random_start: True changes ε random pixels; see `LpBall`.

    Example:
        >>> import tensorflow as tf
        >>> image, moved = tf.zeros([1, 1, 3, 1]), tf.reshape([0.1, 0.9, -0.5], [1, 1, 3, 1])
        >>> tf.squeeze(L0(epsilon=1).project(image, moved)).numpy()
        array([0. , 0.9, 0. ], dtype=float32)
    """

    name: ClassVar[str] = "l0"
    norm_symbol: ClassVar[str] = "0"

    num_steps: Annotated[int, validation.whole(1)] = 20

    @property
    @override
    def solver(self) -> GradientAscent:
        step = 0.15 if self.step_size is None else self.step_size
        return GradientAscent(self, self.num_steps, step, self.random_start, scale_steps=False)

    @override
    def with_max_steps(self, max_steps: int) -> L0:
        """Return the ball with fewer steps of the same length."""
        return dataclasses.replace(self, num_steps=min(self.num_steps, max_steps))

    @override
    def sample(self, images: tf.Tensor, seed: Seed, scale: Scale = 1.0) -> tf.Tensor:
        """Set ε random pixels of each image to uniform draws from [-1, 1], the others to 0."""
        seeds = draws.split(seed, 2)
        shape, epsilon = tf.shape(images), self.radius(images, scale)
        pixels = tf.concat([shape[:3], [1]], axis=0)
        drawn = largest(draws.uniform(pixels, seeds[0], dtype=images.dtype), epsilon)
        change = draws.uniform(shape, seeds[1], -1.0, 1.0, images.dtype)
        return tf.where(drawn, change, 0.0)

    @override
    def direction(self, gradient: tf.Tensor) -> tf.Tensor:
        """Scale the gradient to a mean absolute value of 1."""
        # Divide by the largest value first: sums of tiny gradients lose their digits.
        highest = tf.reduce_max(tf.abs(gradient), axis=[1, 2, 3], keepdims=True)
        unit = tf.math.divide_no_nan(gradient, highest)
        mean = tf.reduce_mean(tf.abs(unit), axis=[1, 2, 3], keepdims=True)
        return tf.math.divide_no_nan(unit, mean)

    @override
    def project(self, images: tf.Tensor, moved: tf.Tensor, scale: Scale = 1.0) -> tf.Tensor:
        # Dropping a change r costs ‖r‖², clipping it to c costs ‖r - c‖². The ε pixels with the
        # largest difference are kept.
        inside = tf.clip_by_value(moved, 0.0, 1.0)
        gain = tf.square(moved - images) - tf.square(moved - inside)
        pixels = tf.reduce_sum(gain, axis=-1, keepdims=True)
        return tf.where(largest(pixels, self.radius(images, scale)), inside, images)

    @override
    def norm(self, perturbation: tf.Tensor) -> tf.Tensor:
        changed = tf.reduce_any(perturbation != 0.0, axis=-1)
        return tf.math.count_nonzero(changed, axis=[1, 2], dtype=perturbation.dtype)

    @staticmethod
    @override
    def distance(perturbation: np.ndarray) -> np.ndarray:
        return np.count_nonzero(np.any(perturbation, axis=-1), axis=(1, 2)).astype(np.float64)

    @property
    @override
    def range(self) -> str:
        return f"||r||_0 <= {self.epsilon:.6g} (pixels that change)"


def largest(values: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Mark the `count` largest values of each image; ties don't add more.

    Args:
        values: float32 [batch, height, width, channels].
        count: float32 scalar or [batch, 1], rounded down.

    Returns:
        bool, the shape of `values`.
    """
    # reduce_prod instead of -1, which is undefined for an empty batch.
    flat = tf.reshape(values, [tf.shape(values)[0], tf.reduce_prod(tf.shape(values)[1:])])
    order = tf.argsort(flat, axis=1, direction="DESCENDING", stable=True)
    rank = tf.argsort(order, axis=1)
    # 0.3 · 10 is slightly less than 3 in float32.
    among = tf.cast(rank, count.dtype) < tf.floor(count + 1e-3)
    return tf.reshape(among, tf.shape(values))
