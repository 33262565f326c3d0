"""Random noise on the pixel values, bounded; one draw, or the worst of several."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import field
from typing import Annotated, ClassVar

import numpy as np

from keras_srt.core import validation
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import draws
from keras_srt.neighborhoods.base import PerExampleLoss, Perturbed, share_of
from keras_srt.neighborhoods.draws import Seed, fold
from keras_srt.neighborhoods.search import CandidateSearch

# Normal noise is cut off here, in multiples of σ, unless told where.
_CUTOFF = 3.0
# x + r is rounded to float32, so that (x + r) - x may be longer than r by this much.
_ROUNDING = 1e-6


@component
class Noise(CandidateSearch):
    """T(x;r) = x + r, clipped to [0, 1], with every value of r drawn by itself.

    With ε alone r is uniform in [-ε, ε]; with σ it is normal with standard deviation σ,
    given that |r| ≤ ε, where ε is 3σ unless set. Either way ‖r‖_∞ ≤ ε holds without exception.
    One draw is plain noise that looks at no model; of more draws, and of the image itself,
    the worst is taken.

    Args:
        epsilon: ε, the largest |r|, in units of pixel values in [0, 1].
        sigma: σ of normal noise in the same units; null for uniform noise.
        num_samples: draws for each image.

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
    def num_candidates(self) -> int:
        """How many draws are compared; none where there is but one."""
        return self.num_samples if self.num_samples > 1 else 0

    def draw(self, images: tf.Tensor, seed: Seed, scale: float | tf.Tensor = 1.0) -> tf.Tensor:
        """One r for each image: float32, the shape of `images`."""
        unit = draws.uniform(tf.shape(images), seed, -1.0, 1.0)
        if self.sigma is None:
            return self.bound * scale * unit
        if self.sigma == 0.0:
            return tf.zeros_like(images)
        # The inverse of the distribution function of the truncated normal distribution.
        width = math.sqrt(2.0) * self.sigma
        drawn = width * tf.math.erfinv(unit * math.erf(self.bound / width))
        return scale * tf.clip_by_value(drawn, -self.bound, self.bound)

    def candidates(
        self, images: tf.Tensor, seed: Seed, scale: float | tf.Tensor
    ) -> Callable[[int | tf.Tensor], tf.Tensor]:
        """The draws; see `CandidateSearch.candidates`."""
        return lambda index: self.draw(images, fold(seed, index), scale)

    def maximize(
        self,
        images: tf.Tensor,
        loss_fn: PerExampleLoss,
        seed: Seed,
        scale: float | tf.Tensor = 1.0,
        start_loss: tf.Tensor | None = None,
    ) -> Perturbed:
        """One draw, or the worst of several; see `Neighborhood.maximize`."""
        if self.num_candidates:
            return super().maximize(images, loss_fn, seed, scale, start_loss)
        images = tf.convert_to_tensor(images)
        drawn = self.draw(images, seed, scale)
        return Perturbed(self.apply(images, drawn), drawn, None)

    def apply(self, images: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
        """x + r, clipped to [0, 1]; r has the shape of `images`."""
        return tf.clip_by_value(images + parameters, 0.0, 1.0)

    def unchanged(self, images: tf.Tensor) -> tf.Tensor:
        """r = 0: the shape of `images`."""
        return tf.zeros_like(images)

    def contains(self, parameters: tf.Tensor, scale: float | tf.Tensor = 1.0) -> tf.Tensor:
        """Whether |r| ≤ scale·ε everywhere: bool [batch]."""
        largest = tf.reduce_max(tf.abs(parameters), axis=[1, 2, 3])
        return largest <= self.bound * scale + _ROUNDING

    def relative_size(self, parameters: np.ndarray) -> np.ndarray:
        """‖r‖_∞ / ε, up to the rounding of float32 pixel values: float64 [batch]."""
        largest = np.abs(np.asarray(parameters, np.float64)).max(axis=(1, 2, 3))
        return share_of(np.maximum(largest - _ROUNDING, 0.0), self.bound)

    @property
    def range(self) -> str:
        """|r| ≤ ε, and how r is distributed."""
        drawn = "uniform noise" if self.sigma is None else f"normal noise of sigma {self.sigma:.6g}"
        return f"{drawn} with |r| <= {self.bound:.6g} (pixel values in [0, 1])"
