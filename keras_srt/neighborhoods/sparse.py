"""Sparse perturbations: the ball of the L0 norm, in which a few pixel values change at will."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import numpy as np

from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import draws
from keras_srt.neighborhoods.draws import Seed
from keras_srt.neighborhoods.lp import LpBall


@component
class L0(LpBall):
    """The L0 ball: at most ε pixel values change, by anything that stays inside [0, 1].

    A step is step_size·d·g/‖g‖₁ for a gradient g of d values, that is, it moves them by
    step_size on average; the projection keeps the ε changes that matter most. A channel of
    a pixel is a value of its own.
    Source: PGD₀ of Croce & Hein 2019 (Sparse and imperceivable adversarial attacks), section 3.1.

    Args:
        epsilon: ε, how many pixel values may change; parts of one don't count.
        num_steps: gradient steps k.
        step_size: mean absolute change of the pixel values in a step, before the projection;
            by default 0.15, which is what the paper's steps are on MNIST and CIFAR-10.
        random_start: see `LpBall`; true changes ε random values.

    Example:
        >>> import tensorflow as tf
        >>> image, moved = tf.zeros([1, 1, 3, 1]), tf.reshape([0.1, 0.9, -0.5], [1, 1, 3, 1])
        >>> tf.squeeze(L0(epsilon=1).project(image, moved, tf.constant(1.0))).numpy()
        array([0. , 0.9, 0. ], dtype=float32)
    """

    name: ClassVar[str] = "l0"
    norm_symbol: ClassVar[str] = "0"

    num_steps: Annotated[int, validation.whole(1)] = 20

    @property
    def step_length(self) -> float:
        """The mean absolute change of a step; a smaller ball doesn't make it smaller."""
        return 0.15 if self.step_size is None else self.step_size

    def with_max_steps(self, rounds: int) -> L0:
        """Fewer steps of the same length: it doesn't depend on their number."""
        return dataclasses.replace(self, num_steps=min(self.num_steps, rounds))

    def ascend(
        self, images: tf.Tensor, now: tf.Tensor, gradient: tf.Tensor, scale: float | tf.Tensor
    ) -> tf.Tensor:
        """One step of projected gradient ascent from `now`."""
        epsilon = tf.cast(self.epsilon * scale, images.dtype)
        return self.project(images, now + self.step_length * self.direction(gradient), epsilon)

    def noise(self, images: tf.Tensor, seed: Seed, epsilon: tf.Tensor) -> tf.Tensor:
        """Uniform in [-1, 1] at ε random values of each image, 0 at the others."""
        seeds = draws.split(seed, 2)
        shape = tf.shape(images)
        drawn = _largest(draws.uniform(shape, seeds[0], dtype=images.dtype), epsilon)
        change = draws.uniform(shape, seeds[1], -1.0, 1.0, images.dtype)
        return tf.where(drawn, change, 0.0)

    def direction(self, gradient: tf.Tensor) -> tf.Tensor:
        """The gradient with values of mean size 1; 0 where it vanishes."""
        # Scaled by the largest value first: sums of tiny gradients lose their digits.
        largest = tf.reduce_max(tf.abs(gradient), axis=[1, 2, 3], keepdims=True)
        unit = tf.math.divide_no_nan(gradient, largest)
        mean = tf.reduce_mean(tf.abs(unit), axis=[1, 2, 3], keepdims=True)
        return tf.math.divide_no_nan(unit, mean)

    def project(self, images: tf.Tensor, moved: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
        """The ε changes kept whose loss would lengthen the way to `moved` most.

        To leave a change r out, or to have it clipped to c, costs r² or (r - c)²; kept are
        those of the largest difference.
        """
        inside = tf.clip_by_value(moved, 0.0, 1.0)
        gain = tf.square(moved - images) - tf.square(moved - inside)
        return tf.where(_largest(gain, epsilon), inside, images)

    def norm(self, perturbation: tf.Tensor) -> tf.Tensor:
        """How many values of each image aren't 0."""
        return tf.math.count_nonzero(perturbation, axis=[1, 2, 3], dtype=perturbation.dtype)

    @staticmethod
    def distance(perturbation: np.ndarray) -> np.ndarray:
        """How many values of each image aren't 0, in float64."""
        return np.count_nonzero(perturbation, axis=(1, 2, 3)).astype(np.float64)

    @property
    def range(self) -> str:
        """‖r‖₀ ≤ ε."""
        return f"||r||_0 <= {self.epsilon:.6g} (pixel values that change)"


def _largest(values: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Whether a value is among the `count` largest of its image: bool, exactly that many."""
    # Not -1, which an empty batch leaves open.
    flat = tf.reshape(values, [tf.shape(values)[0], tf.reduce_prod(tf.shape(values)[1:])])
    order = tf.argsort(flat, axis=1, direction="DESCENDING", stable=True)
    rank = tf.argsort(order, axis=1)
    # 0.3 · 10 is a little less than 3 in float32.
    among = tf.cast(rank, count.dtype) < tf.floor(count + 1e-3)
    return tf.reshape(among, tf.shape(values))
