"""Bounded random noise on the pixel values: one draw, or the worst of several draws."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import field
from typing import Annotated, ClassVar

import numpy as np
from typing_extensions import override

from keras_srt.core import validation
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.formatting import format_number
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import draws
from keras_srt.neighborhoods.base import Neighborhood, fraction_of_bound
from keras_srt.neighborhoods.candidate_search import RandomSearch, SingleDraw
from keras_srt.neighborhoods.draws import Seed
from keras_srt.neighborhoods.solver import Scale

# The default cutoff of normal noise, in multiples of σ.
_CUTOFF = 3.0
# x + r is rounded to float32, so (x + r) - x may exceed r by this much.
_ROUNDING = 1e-6


@component
class Noise(Neighborhood):
    """T(x;r) = x + r, clipped to [0, 1], with independent random values r.

    With ε alone, r is uniform in [-ε, ε]. With σ, r is normal with standard deviation σ,
    truncated to |r| ≤ ε, where ε defaults to 3σ. ‖r‖_∞ ≤ ε always holds. A single draw is
    plain noise and needs no model; of several draws and the unperturbed image, the search
    returns the worst.

    Args:
        epsilon: ε, the largest |r|, in units of pixel values in [0, 1].
        sigma: σ of normal noise in the same units; null for uniform noise.
        num_samples: Draws for each image.

    Example:
        >>> Noise(sigma=0.1).range
        'normal noise of sigma 0.1 with |r| <= 0.3 (pixel values in [0, 1])'
    """

    name: ClassVar[str] = "noise"
    kind: ClassVar[str] = "pixel"

    epsilon: Annotated[float, validation.real(0, 1)] | None = field(default=None, kw_only=False)
    sigma: Annotated[float, validation.real(0, 1)] | None = None
    num_samples: Annotated[int, validation.whole(1)] = 1

    def __post_init__(self) -> None:
        if self.epsilon is None and self.sigma is None:
            raise InvalidSettings(
                ["epsilon: got null with sigma null; allowed: one of the two given, or both"]
            )

    @property
    def bound(self) -> float:
        """The largest |r|."""
        return _CUTOFF * (self.sigma or 0.0) if self.epsilon is None else self.epsilon

    @property
    @override
    def solver(self) -> RandomSearch | SingleDraw:
        return RandomSearch(self, self.num_samples) if self.num_samples > 1 else SingleDraw(self)

    @override
    def with_max_steps(self, max_steps: int) -> Noise:
        """Return the set with fewer draws."""
        return dataclasses.replace(self, num_samples=min(self.num_samples, max_steps))

    @override
    def sample(self, images: tf.Tensor, seed: Seed, scale: Scale = 1.0) -> tf.Tensor:
        """Draw r for each image: float32, the shape of `images`."""
        unit = draws.uniform(tf.shape(images), seed, -1.0, 1.0)
        if self.sigma is None:
            return self.bound * scale * unit
        if self.sigma == 0.0:
            return tf.zeros_like(images)
        # The inverse of the distribution function of the truncated normal distribution.
        width = math.sqrt(2.0) * self.sigma
        drawn = width * tf.math.erfinv(unit * math.erf(self.bound / width))
        return scale * tf.clip_by_value(drawn, -self.bound, self.bound)

    @override
    def apply(self, images: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
        """Compute x + r, clipped to [0, 1]; r has the shape of `images`."""
        return tf.clip_by_value(images + parameters, 0.0, 1.0)

    @override
    def identity(self, images: tf.Tensor) -> tf.Tensor:
        return tf.zeros_like(images)

    @override
    def contains(self, parameters: tf.Tensor, scale: Scale = 1.0) -> tf.Tensor:
        largest = tf.reduce_max(tf.abs(parameters), axis=[1, 2, 3])
        return largest <= self.bound * scale + _ROUNDING

    @override
    def relative_size(self, parameters: np.ndarray) -> np.ndarray:
        largest = np.abs(np.asarray(parameters, np.float64)).max(axis=(1, 2, 3))
        return fraction_of_bound(np.maximum(largest - _ROUNDING, 0.0), self.bound)

    @property
    @override
    def range(self) -> str:
        drawn = "uniform noise"
        if self.sigma is not None:
            drawn = f"normal noise of sigma {format_number(self.sigma)}"
        return f"{drawn} with |r| <= {format_number(self.bound)} (pixel values in [0, 1])"

    @property
    @override
    def distance_bound(self) -> str:
        return f"||r||_inf <= {format_number(self.bound)} (pixel values in [0, 1])"
