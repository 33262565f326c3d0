"""Geometric perturbations: rotation about the centre and translation."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import field
from typing import Annotated, ClassVar, Literal

import numpy as np

from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import draws
from keras_srt.neighborhoods.base import share_of
from keras_srt.neighborhoods.draws import Seed, fold
from keras_srt.neighborhoods.geometry import rotate_and_translate
from keras_srt.neighborhoods.search import CandidateSearch

GridSize = Annotated[int, validation.whole(1)]


@component
class Spatial(CandidateSearch):
    """T(x;θ,B) = A(θ)x + B with |θ| ≤ max_rotation and ‖B‖_∞ ≤ max_translation.

    Zero fill, bilinear. The worst of the candidates, each image's own, is returned;
    the image itself is one of them, so the loss never falls.
    Source: Engstrom et al. 2019, section 4 (worst-of-k and grid search).

    Args:
        max_rotation: degrees.
        max_translation: pixels, to each side and up and down.
        search: "random" draws, or the "grid".
        num_samples: random draws k for each image.
        grid: how many translations to the right, translations down and rotations the
            grid has; evenly spaced, both ends included.

    Example:
        >>> Spatial(max_rotation=30, max_translation=3, search="grid").num_candidates
        775
    """

    name: ClassVar[str] = "spatial"
    kind: ClassVar[str] = "spatial"
    has_kernels: ClassVar[bool] = False

    max_rotation: Annotated[float, validation.real(0, 180)] = field(default=30.0, kw_only=False)
    max_translation: Annotated[float, validation.real(0)] = 3.0
    search: Literal["random", "grid"] = "random"
    num_samples: Annotated[int, validation.whole(1)] = 10
    grid: tuple[GridSize, GridSize, GridSize] = (5, 5, 31)

    @property
    def limits(self) -> np.ndarray:
        """The largest degrees, pixels right and pixels down: float32 [3]."""
        return np.float32([self.max_rotation, self.max_translation, self.max_translation])

    @property
    def num_candidates(self) -> int:
        """How many transforms are tried for each image."""
        return self.num_samples if self.search == "random" else int(np.prod(self.grid))

    def grid_points(self) -> np.ndarray:
        """All transforms of the grid: float32 [candidates, 3], degrees and pixels."""

        def axis(limit: float, points: int) -> np.ndarray:
            return np.linspace(-limit, limit, points) if points > 1 else np.zeros(1)

        right, down, turns = self.grid
        axes = (
            axis(self.max_rotation, turns),
            axis(self.max_translation, right),
            axis(self.max_translation, down),
        )
        return np.float32(list(itertools.product(*axes)))

    def random_points(
        self, num_images: int | tf.Tensor, seed: Seed, scale: float | tf.Tensor = 1.0
    ) -> tf.Tensor:
        """One uniform draw for each image: float32 [num_images, 3], degrees and pixels."""
        unit = draws.uniform([num_images, 3], seed, -1.0, 1.0)
        return unit * self.limits * scale

    def candidates(
        self, images: tf.Tensor, seed: Seed, scale: float | tf.Tensor
    ) -> Callable[[int | tf.Tensor], tf.Tensor]:
        """Random draws, or the points of the grid; see `CandidateSearch.candidates`."""
        num_images = tf.shape(images)[0]
        if self.search == "random":
            return lambda index: self.random_points(num_images, fold(seed, index), scale)
        grid = tf.constant(self.grid_points())
        return lambda index: tf.repeat(grid[index][None] * scale, num_images, axis=0)

    def apply(self, images: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
        """A(θ)x + B; parameters are float32 [batch, 3]: degrees, pixels right, pixels down."""
        return rotate_and_translate(images, parameters)

    def unchanged(self, images: tf.Tensor) -> tf.Tensor:
        """No rotation and no translation: float32 [batch, 3]."""
        return tf.zeros([tf.shape(images)[0], 3])

    def contains(self, parameters: tf.Tensor, scale: float | tf.Tensor = 1.0) -> tf.Tensor:
        """Whether rotation and translation keep to their limits: bool [batch]."""
        return tf.reduce_all(tf.abs(parameters) <= self.limits * scale + 1e-4, axis=1)

    def relative_size(self, parameters: np.ndarray) -> np.ndarray:
        """The largest of |θ| and ‖B‖_∞, each by its limit: float64 [batch]."""
        return share_of(np.abs(np.asarray(parameters, np.float64)), self.limits).max(axis=1)

    @property
    def range(self) -> str:
        """|θ| and ‖B‖_∞."""
        return (
            f"|rotation| <= {self.max_rotation:g} degrees, "
            f"||translation||_inf <= {self.max_translation:g} pixels"
        )
