"""Pixel perturbations: balls around an image in the L∞ norm and the L2 norm."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from dataclasses import field
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError
from typing_extensions import override

from keras_srt.core import validation
from keras_srt.core.formatting import format_number
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.core.validation import FloatOrFraction
from keras_srt.neighborhoods import draws
from keras_srt.neighborhoods.base import Neighborhood, fraction_of_bound
from keras_srt.neighborhoods.draws import Seed
from keras_srt.neighborhoods.gradient_ascent import GradientAscent
from keras_srt.neighborhoods.solver import Scale

# x + r is rounded to float32, so (x + r) - x may exceed r by this much.
_ROUNDING = 1e-6


def _validate_start(start: Any) -> bool | float:
    number = validation.parse_number(start)
    # 0 and 1 are refused: they are likely meant as false and true.
    if isinstance(number, bool) or (isinstance(number, float) and 0 < number < 1):
        return number
    allowed = "true or false, or a number between 0 and 1: σ of normal noise"
    raise PydanticCustomError("allowed", "{allowed}", {"allowed": allowed})


@component
class LpBall(Neighborhood):
    """T(x;r) = x + r with ‖r‖_p ≤ ε, inside [0, 1], searched by projected gradient ascent.

    A norm contributes `sample`, `direction`, `project` and `norm`.
    Source: Madry et al. 2018, section 2.1.

    Args:
        epsilon: ε, the radius, in units of pixel values in [0, 1].
        num_steps: Gradient steps k.
        step_size: Length of a step; by default 2.5·ε/k, which reaches every point of
            the ball from every other point.
        random_start: True starts at a random point of the ball, false at its center, a
            number σ at x + σ·N(0, 1), which is TRADES' start with σ = 0.001.
    """

    kind: ClassVar[str] = "pixel"
    norm_symbol: ClassVar[str]

    epsilon: Annotated[FloatOrFraction, validation.real(0)] = field(kw_only=False)
    num_steps: Annotated[int, validation.whole(1)] = 10
    step_size: Annotated[float, validation.real(0)] | None = None
    random_start: Annotated[Any, BeforeValidator(_validate_start)] = True

    @abstractmethod
    def direction(self, gradient: tf.Tensor) -> tf.Tensor:
        """Return the direction of steepest ascent: the r with ‖r‖ = 1 that maximizes ⟨gradient, r⟩.

        Args:
            gradient: float32 [batch, height, width, channels].

        Returns:
            float32, the shape of `gradient`; 0 for an image whose gradient is 0.
        """

    @abstractmethod
    def project(self, images: tf.Tensor, moved: tf.Tensor, scale: Scale = 1.0) -> tf.Tensor:
        """Move points into the ball around `images`, then into [0, 1].

        For L∞, and in the ball alone, this is the nearest point. For other norms a nearer point in
        the intersection can exist.

        Args:
            images: float32 [batch, height, width, channels] in [0, 1]: the centers.
            moved: float32, the shape of `images`.
            scale: Fraction of the full ball, from 0 to 1.

        Returns:
            float32, the shape of `images`.
        """

    @abstractmethod
    def norm(self, perturbation: tf.Tensor) -> tf.Tensor:
        """Compute ‖r‖ of each image: [batch, height, width, channels] -> [batch]."""

    @staticmethod
    @abstractmethod
    def distance(perturbation: np.ndarray) -> np.ndarray:
        """Compute ‖r‖ in NumPy's float64: [batch, height, width, channels] -> [batch]."""

    def radius(self, images: tf.Tensor, scale: Scale) -> tf.Tensor:
        """Return scale·ε as a scalar with the dtype of the images."""
        return tf.cast(self.epsilon * scale, images.dtype)

    @property
    @override
    def solver(self) -> GradientAscent:
        step = 2.5 * self.epsilon / self.num_steps if self.step_size is None else self.step_size
        return GradientAscent(self, self.num_steps, step, self.random_start)

    @override
    def with_max_steps(self, max_steps: int) -> LpBall:
        """Return the ball with fewer and longer steps: the same distance, at most 1.25·ε a step.

        Longer first steps from a random start make single-step training collapse
        (Wong et al. 2020, figure 2).
        """
        steps, length = min(self.num_steps, max_steps), self.solver.step_size
        same_distance = min(length * self.num_steps / steps, 1.25 * self.epsilon)
        return dataclasses.replace(self, num_steps=steps, step_size=max(length, same_distance))

    @override
    def apply(self, images: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
        """Compute x + r, clipped to [0, 1]; r has the shape of `images`."""
        return tf.clip_by_value(images + parameters, 0.0, 1.0)

    @override
    def identity(self, images: tf.Tensor) -> tf.Tensor:
        return tf.zeros_like(images)

    @override
    def contains(self, parameters: tf.Tensor, scale: Scale = 1.0) -> tf.Tensor:
        return self.norm(parameters) <= self.epsilon * scale + 1e-6 * (1.0 + self.epsilon)

    @override
    def relative_size(self, parameters: np.ndarray) -> np.ndarray:
        distance = np.maximum(self.distance(parameters) - _ROUNDING, 0.0)
        return fraction_of_bound(distance, self.epsilon)

    @property
    @override
    def range(self) -> str:
        return f"||r||_{self.norm_symbol} <= {format_number(self.epsilon)} (pixel values in [0, 1])"


@component
class LInf(LpBall):
    """The L∞ ball: every pixel value changes by at most ε. See `LpBall` for the arguments.

    Example:
        >>> LInf(epsilon="8/255", num_steps=10, step_size=0.007).passes.gradient
        10
    """

    name: ClassVar[str] = "linf"
    norm_symbol: ClassVar[str] = "inf"

    epsilon: Annotated[FloatOrFraction, validation.real(0, 1)] = field(kw_only=False)

    @override
    def sample(self, images: tf.Tensor, seed: Seed, scale: Scale = 1.0) -> tf.Tensor:
        """Draw r uniformly from [-ε, ε] for each pixel value."""
        unit = draws.uniform(tf.shape(images), seed, -1.0, 1.0, images.dtype)
        return self.radius(images, scale) * unit

    @override
    def direction(self, gradient: tf.Tensor) -> tf.Tensor:
        return tf.sign(gradient)

    @override
    def project(self, images: tf.Tensor, moved: tf.Tensor, scale: Scale = 1.0) -> tf.Tensor:
        epsilon = self.radius(images, scale)
        low = tf.maximum(images - epsilon, 0.0)
        high = tf.minimum(images + epsilon, 1.0)
        return tf.minimum(tf.maximum(moved, low), high)

    @override
    def norm(self, perturbation: tf.Tensor) -> tf.Tensor:
        return tf.reduce_max(tf.abs(perturbation), axis=[1, 2, 3])

    @staticmethod
    @override
    def distance(perturbation: np.ndarray) -> np.ndarray:
        return np.abs(np.asarray(perturbation, np.float64)).max(axis=(1, 2, 3))


@component
class L2(LpBall):
    """The L2 ball: the perturbation's length is at most ε. See `LpBall` for the arguments.

    Example:
        >>> L2(epsilon=2.0, num_steps=20).solver.step_size
        0.25
    """

    name: ClassVar[str] = "l2"
    norm_symbol: ClassVar[str] = "2"

    @override
    def sample(self, images: tf.Tensor, seed: Seed, scale: Scale = 1.0) -> tf.Tensor:
        """Draw r uniformly from the ball: a random direction and a radius of ε·u^(1/d)."""
        seeds = draws.split(seed, 2)
        direction = self.direction(draws.normal(tf.shape(images), seeds[0], images.dtype))
        shape = [tf.shape(images)[0], 1, 1, 1]
        size = tf.cast(tf.reduce_prod(tf.shape(images)[1:]), images.dtype)
        radius = draws.uniform(shape, seeds[1], dtype=images.dtype) ** (1.0 / size)
        return self.radius(images, scale) * radius * direction

    @override
    def direction(self, gradient: tf.Tensor) -> tf.Tensor:
        length = self.norm(gradient)[:, None, None, None]
        return tf.math.divide_no_nan(gradient, length)

    @override
    def project(self, images: tf.Tensor, moved: tf.Tensor, scale: Scale = 1.0) -> tf.Tensor:
        perturbation = moved - images
        length = self.norm(perturbation)[:, None, None, None]
        shrink = tf.minimum(1.0, tf.math.divide_no_nan(self.radius(images, scale), length))
        # Clipping to [0, 1] only shortens the perturbation.
        return tf.clip_by_value(images + perturbation * shrink, 0.0, 1.0)

    @override
    def norm(self, perturbation: tf.Tensor) -> tf.Tensor:
        # Divide by the largest value first: squares of tiny gradients underflow.
        largest = tf.reduce_max(tf.abs(perturbation), axis=[1, 2, 3], keepdims=True)
        unit = tf.math.divide_no_nan(perturbation, largest)
        length = tf.sqrt(tf.reduce_sum(tf.square(unit), axis=[1, 2, 3], keepdims=True))
        return tf.squeeze(largest * length, axis=[1, 2, 3])

    @staticmethod
    @override
    def distance(perturbation: np.ndarray) -> np.ndarray:
        return np.sqrt(np.square(np.asarray(perturbation, np.float64)).sum(axis=(1, 2, 3)))
