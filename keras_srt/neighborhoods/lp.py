"""Pixel perturbations: balls around an image in the L∞ and the L2 norm."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from dataclasses import field
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.core.validation import FloatOrFraction
from keras_srt.neighborhoods import draws
from keras_srt.neighborhoods.base import (
    Neighborhood,
    Passes,
    PerExampleLoss,
    Perturbed,
    repeat,
    share_of,
)
from keras_srt.neighborhoods.draws import Seed

# x + r is rounded to float32, so that (x + r) - x may be longer than r by this much.
_ROUNDING = 1e-6


def _validate_start(start: Any) -> bool | float:
    number = validation.parse_number(start)
    # 0 and 1 are left out: who writes them means false and true.
    if isinstance(number, bool) or (isinstance(number, float) and 0 < number < 1):
        return number
    allowed = "true or false, or a number between 0 and 1: σ of normal noise"
    raise PydanticCustomError("allowed", "{allowed}", {"allowed": allowed})


@component
class LpBall(Neighborhood):
    """T(x;r) = x + r with ‖r‖_p ≤ ε, inside [0, 1], searched by projected gradient ascent.

    A norm contributes `random_start`, `direction` and `project`; the ascent is shared.
    Source: Madry et al. 2018, section 2.1.

    Args:
        epsilon: ε, the radius, in units of pixel values in [0, 1].
        num_steps: gradient steps k.
        step_size: length of a step; by default 2.5·ε/k, which reaches every point of
            the ball from every other.
        random_start: true starts at a random point of the ball, false at its centre, a
            number σ at x + σ·N(0, 1), which is TRADES' start with σ = 0.001.
    """

    kind: ClassVar[str] = "pixel"
    norm_symbol: ClassVar[str]

    epsilon: Annotated[FloatOrFraction, validation.real(0)] = field(kw_only=False)
    num_steps: Annotated[int, validation.whole(1)] = 10
    step_size: Annotated[float, validation.real(0)] | None = None
    random_start: Annotated[Any, BeforeValidator(_validate_start)] = True

    @abstractmethod
    def noise(self, images: tf.Tensor, seed: Seed, epsilon: tf.Tensor) -> tf.Tensor:
        """A random r of the ball for each image, the shape of `images`."""

    @abstractmethod
    def direction(self, gradient: tf.Tensor) -> tf.Tensor:
        """The r with ‖r‖ = 1 that raises a loss of this gradient most."""

    @abstractmethod
    def project(self, images: tf.Tensor, moved: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
        """The images of the ball, and of [0, 1], nearest to `moved`."""

    @abstractmethod
    def norm(self, perturbation: tf.Tensor) -> tf.Tensor:
        """‖r‖ of each image [batch, height, width, channels] -> [batch]."""

    @staticmethod
    @abstractmethod
    def distance(perturbation: np.ndarray) -> np.ndarray:
        """‖r‖ in NumPy's float64: [batch, height, width, channels] -> [batch]."""

    @property
    def step_length(self) -> float:
        """The length of a gradient step at full scale."""
        return 2.5 * self.epsilon / self.num_steps if self.step_size is None else self.step_size

    def start(self, images: tf.Tensor, seed: Seed, scale: float | tf.Tensor) -> tf.Tensor:
        """Where the ascent starts: see `random_start`; always inside the ball."""
        if self.random_start is False:
            return images
        epsilon = tf.cast(self.epsilon * scale, images.dtype)
        if self.random_start is True:
            noise = self.noise(images, seed, epsilon)
        else:
            drawn = draws.normal(tf.shape(images), seed, images.dtype)
            noise = self.random_start * drawn
        return self.project(images, images + noise, epsilon)

    def ascend(
        self, images: tf.Tensor, now: tf.Tensor, gradient: tf.Tensor, scale: float | tf.Tensor
    ) -> tf.Tensor:
        """One step of projected gradient ascent from `now`."""
        epsilon = tf.cast(self.epsilon * scale, images.dtype)
        step = tf.cast(self.step_length * scale, images.dtype)
        return self.project(images, now + step * self.direction(gradient), epsilon)

    def maximize(
        self,
        images: tf.Tensor,
        loss_fn: PerExampleLoss,
        seed: Seed,
        scale: float | tf.Tensor = 1.0,
        start_loss: tf.Tensor | None = None,
    ) -> Perturbed:
        """Projected gradient ascent; see `Neighborhood.maximize`. `start_loss` isn't needed."""
        images = tf.convert_to_tensor(images)

        def step(_: int | tf.Tensor, now: tf.Tensor) -> tf.Tensor:
            # Without watch_accessed_variables=False every step would track the weights.
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(now)
                loss = loss_fn(now)
            return self.ascend(images, now, tape.gradient(loss, now), scale)

        found = repeat(self.num_steps, step, self.start(images, seed, scale))
        return Perturbed(found, found - images, None)

    def apply(self, images: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
        """x + r, clipped to [0, 1]; r has the shape of `images`."""
        return tf.clip_by_value(images + parameters, 0.0, 1.0)

    def unchanged(self, images: tf.Tensor) -> tf.Tensor:
        """r = 0: the shape of `images`."""
        return tf.zeros_like(images)

    def contains(self, parameters: tf.Tensor, scale: float | tf.Tensor = 1.0) -> tf.Tensor:
        """Whether ‖r‖ ≤ scale·ε: bool [batch]."""
        return self.norm(parameters) <= self.epsilon * scale + 1e-6 * (1.0 + self.epsilon)

    def relative_size(self, parameters: np.ndarray) -> np.ndarray:
        """‖r‖ / ε, up to the rounding of float32 pixel values: float64 [batch]."""
        return share_of(np.maximum(self.distance(parameters) - _ROUNDING, 0.0), self.epsilon)

    @property
    def rounds(self) -> int:
        """The gradient steps k."""
        return self.num_steps

    def with_max_steps(self, rounds: int) -> LpBall:
        """Fewer steps, and longer ones: they lead as far, up to 1.25·ε each.

        Longer first steps from a random start make single-step training collapse
        (Wong et al. 2020, figure 2).
        """
        steps = min(self.num_steps, rounds)
        as_far = min(self.step_length * self.num_steps / steps, 1.25 * self.epsilon)
        step_size = max(self.step_length, as_far)
        return dataclasses.replace(self, num_steps=steps, step_size=step_size)

    @property
    def passes(self) -> Passes:
        """k forward + input-gradient passes."""
        return Passes(forward=0, gradient=self.num_steps)

    @property
    def range(self) -> str:
        """‖r‖ ≤ ε."""
        return f"||r||_{self.norm_symbol} <= {self.epsilon:.6g} (pixel values in [0, 1])"


@component
class LInf(LpBall):
    """The L∞ ball: every pixel value moves by at most ε. Arguments: see `LpBall`.

    Example:
        >>> LInf(epsilon="8/255", num_steps=10, step_size=0.007).passes.gradient
        10
    """

    name: ClassVar[str] = "linf"
    norm_symbol: ClassVar[str] = "inf"

    epsilon: Annotated[FloatOrFraction, validation.real(0, 1)] = field(kw_only=False)

    def noise(self, images: tf.Tensor, seed: Seed, epsilon: tf.Tensor) -> tf.Tensor:
        """Uniform in [-ε, ε] for each pixel value."""
        unit = draws.uniform(tf.shape(images), seed, -1.0, 1.0, images.dtype)
        return epsilon * unit

    def direction(self, gradient: tf.Tensor) -> tf.Tensor:
        """The sign of the gradient."""
        return tf.sign(gradient)

    def project(self, images: tf.Tensor, moved: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
        """Each pixel value clipped to [x - ε, x + ε] and to [0, 1]."""
        low = tf.maximum(images - epsilon, 0.0)
        high = tf.minimum(images + epsilon, 1.0)
        return tf.minimum(tf.maximum(moved, low), high)

    def norm(self, perturbation: tf.Tensor) -> tf.Tensor:
        """The largest absolute value of each image."""
        return tf.reduce_max(tf.abs(perturbation), axis=[1, 2, 3])

    @staticmethod
    def distance(perturbation: np.ndarray) -> np.ndarray:
        """The largest absolute value of each image, in float64."""
        return np.abs(np.asarray(perturbation, np.float64)).max(axis=(1, 2, 3))


@component
class L2(LpBall):
    """The L2 ball: the perturbation's length is at most ε. Arguments: see `LpBall`.

    Example:
        >>> L2(epsilon=2.0, num_steps=20).step_length
        0.25
    """

    name: ClassVar[str] = "l2"
    norm_symbol: ClassVar[str] = "2"

    def noise(self, images: tf.Tensor, seed: Seed, epsilon: tf.Tensor) -> tf.Tensor:
        """Uniform in the ball: a random direction, a radius of ε·u^(1/d)."""
        seeds = draws.split(seed, 2)
        direction = self.direction(draws.normal(tf.shape(images), seeds[0], images.dtype))
        shape = [tf.shape(images)[0], 1, 1, 1]
        size = tf.cast(tf.reduce_prod(tf.shape(images)[1:]), images.dtype)
        radius = draws.uniform(shape, seeds[1], dtype=images.dtype) ** (1.0 / size)
        return epsilon * radius * direction

    def direction(self, gradient: tf.Tensor) -> tf.Tensor:
        """The gradient at unit length; 0 where it vanishes."""
        length = self.norm(gradient)[:, None, None, None]
        return tf.math.divide_no_nan(gradient, length)

    def project(self, images: tf.Tensor, moved: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
        """Scaled back onto the ball, then clipped to [0, 1], which only shortens it."""
        perturbation = moved - images
        length = self.norm(perturbation)[:, None, None, None]
        shrink = tf.minimum(1.0, tf.math.divide_no_nan(epsilon, length))
        return tf.clip_by_value(images + perturbation * shrink, 0.0, 1.0)

    def norm(self, perturbation: tf.Tensor) -> tf.Tensor:
        """The Euclidean length of each image."""
        # Scaled by the largest value first: squares of tiny gradients underflow.
        largest = tf.reduce_max(tf.abs(perturbation), axis=[1, 2, 3], keepdims=True)
        unit = tf.math.divide_no_nan(perturbation, largest)
        length = tf.sqrt(tf.reduce_sum(tf.square(unit), axis=[1, 2, 3], keepdims=True))
        return tf.squeeze(largest * length, axis=[1, 2, 3])

    @staticmethod
    def distance(perturbation: np.ndarray) -> np.ndarray:
        """The Euclidean length of each image, in float64."""
        return np.sqrt(np.square(np.asarray(perturbation, np.float64)).sum(axis=(1, 2, 3)))
