"""Lost pixels: a share of an image's pixels is 0 in all channels."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Annotated, ClassVar, Literal

import numpy as np
from typing_extensions import override

from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.core.validation import FloatOrFraction
from keras_srt.neighborhoods import draws
from keras_srt.neighborhoods.base import Neighborhood, fraction_of_bound
from keras_srt.neighborhoods.candidate_search import RandomSearch, SingleDraw
from keras_srt.neighborhoods.draws import Seed
from keras_srt.neighborhoods.gradient_ascent import ParameterSearch
from keras_srt.neighborhoods.solver import Scale
from keras_srt.neighborhoods.sparse import largest

_ROUNDING = 1e-6


@component
class PixelDropout(Neighborhood):
    """T(x;m) = (1-m)·x with m in {0, 1} for each pixel, and at most a share of the m is 1.

    A lost pixel is 0 in all channels and counts once. The distance is the share of lost pixels.
    Source: patent CN111401445A, [0095]: pixels that are lost in transmission.

    Args:
        share: Largest share of lost pixels, from 0 to 1; the number of pixels is rounded down.
        search: "random" for the worst of random draws, or "gradient" for `GreedyDropout`.
        num_samples: Random draws for each image; 1 is plain dropout without a search.
        num_steps: Gradient steps k.

    Example:
        >>> import tensorflow as tf
        >>> row = tf.reshape([0.5, 0.6, 0.7], [1, 1, 3, 1])
        >>> lost = tf.reshape([0.0, 1.0, 0.0], [1, 1, 3, 1])
        >>> tf.squeeze(PixelDropout("1/3").apply(row, lost)).numpy()
        array([0.5, 0. , 0.7], dtype=float32)
    """

    name: ClassVar[str] = "pixel_dropout"
    kind: ClassVar[str] = "pixel"

    share: Annotated[FloatOrFraction, validation.real(0, 1)] = field(kw_only=False)
    search: Literal["random", "gradient"] = "random"
    num_samples: Annotated[int, validation.whole(1)] = 10
    num_steps: Annotated[int, validation.whole(1)] = 10

    def count(self, images: tf.Tensor, scale: Scale = 1.0) -> tf.Tensor:
        """Return the largest number of lost pixels of an image: float32 scalar, not rounded."""
        shape = tf.shape(images)
        return self.share * scale * tf.cast(shape[1] * shape[2], tf.float32)

    @property
    def greedy(self) -> GreedyDropout:
        """The solver for `search` "gradient"."""
        return GreedyDropout(self, self.num_steps)

    @property
    @override
    def solver(self) -> GreedyDropout | RandomSearch | SingleDraw:
        if self.search == "gradient":
            return self.greedy
        return RandomSearch(self, self.num_samples) if self.num_samples > 1 else SingleDraw(self)

    @override
    def with_max_steps(self, max_steps: int) -> PixelDropout:
        """Return the set with fewer draws, or with fewer steps that lose more pixels each."""
        if self.search == "random":
            return dataclasses.replace(self, num_samples=min(self.num_samples, max_steps))
        return dataclasses.replace(self, num_steps=min(self.num_steps, max_steps))

    @override
    def sample(self, images: tf.Tensor, seed: Seed, scale: Scale = 1.0) -> tf.Tensor:
        """Draw as many lost pixels as allowed: float32 [batch, height, width, 1], 1 is lost."""
        pixels = tf.concat([tf.shape(images)[:3], [1]], axis=0)
        lost = largest(draws.uniform(pixels, seed), self.count(images, scale))
        return tf.cast(lost, tf.float32)

    @override
    def apply(self, images: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
        """Compute (1-m)·x; m is float32 [batch, height, width, 1]."""
        return tf.convert_to_tensor(images) * (1.0 - parameters)

    @override
    def identity(self, images: tf.Tensor) -> tf.Tensor:
        return tf.zeros(tf.concat([tf.shape(images)[:3], [1]], axis=0))

    @override
    def contains(self, parameters: tf.Tensor, scale: Scale = 1.0) -> tf.Tensor:
        binary = tf.reduce_all((parameters == 0.0) | (parameters == 1.0), axis=[1, 2, 3])
        share = tf.reduce_mean(parameters, axis=[1, 2, 3])
        return binary & (share <= self.share * scale + _ROUNDING)

    @override
    def relative_size(self, parameters: np.ndarray) -> np.ndarray:
        """Return the share of lost pixels, divided by its limit: float64 [batch]."""
        lost = np.asarray(parameters, np.float64)
        share = np.where((lost == 0) | (lost == 1), lost, np.inf).mean(axis=(1, 2, 3))
        return fraction_of_bound(np.maximum(share - _ROUNDING, 0.0), self.share)

    @property
    @override
    def range(self) -> str:
        return f"lost pixels <= {self.share:.6g} of the image"


@dataclasses.dataclass(frozen=True)
class GreedyDropout(ParameterSearch):
    """Lose the pixels that raise the loss most, a k-th of them in each step.

    To first order, the loss of pixel p raises the loss by ∂loss/∂m_p = -Σ_c ∂loss/∂x_pc·x_pc.

    Args:
        neighborhood: The set to search.
        num_steps: Gradient steps k.
    """

    neighborhood: PixelDropout

    @override
    def step(
        self,
        images: tf.Tensor,
        now: tf.Tensor,
        gradient: tf.Tensor,
        index: int | tf.Tensor,
        scale: Scale = 1.0,
    ) -> tf.Tensor:
        share = tf.cast(index + 1, tf.float32) / self.num_steps
        count = share * self.neighborhood.count(images, scale)
        added = largest(tf.where(now > 0.0, gradient.dtype.max, gradient), count)
        return tf.maximum(now, tf.cast(added & (gradient > 0.0), now.dtype))
