"""Spatial perturbations: rotation about the center and translation."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import field
from typing import Annotated, ClassVar, Literal

import numpy as np
from typing_extensions import override

from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import draws
from keras_srt.neighborhoods.base import Neighborhood, fraction_of_bound
from keras_srt.neighborhoods.candidate_search import CandidateSearch, GridSearch, RandomSearch
from keras_srt.neighborhoods.draws import Seed
from keras_srt.neighborhoods.geometry import rotate_and_translate
from keras_srt.neighborhoods.solver import Scale

GridSize = Annotated[int, validation.whole(1)]


@component
class Spatial(Neighborhood):
    """T(x;θ,B) = A(θ)x + B with |θ| ≤ max_rotation and ‖B‖_∞ ≤ max_translation.

    Zero fill, bilinear interpolation. The search returns the worst candidate of each image;
    the unperturbed image is a candidate, so the loss never decreases.
    Source: Engstrom et al. 2019, section 4 (worst-of-k and grid search).

    Args:
        max_rotation: Degrees.
        max_translation: Pixels, in each direction.
        search: "random" for random draws, or "grid".
        num_samples: Random draws k for each image.
        grid: Number of translations right, translations down and rotations in the
            grid; evenly spaced, both ends included.

    Example:
        >>> Spatial(max_rotation=30, max_translation=3, search="grid").solver.num_candidates
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
        """The largest rotation, translation right and translation down: float32 [3]."""
        return np.float32([self.max_rotation, self.max_translation, self.max_translation])

    def grid_points(self) -> np.ndarray:
        """Return all transforms of the grid: float32 [candidates, 3], degrees and pixels."""

        def axis(limit: float, points: int) -> np.ndarray:
            return np.linspace(-limit, limit, points) if points > 1 else np.zeros(1)

        right, down, turns = self.grid
        axes = (
            axis(self.max_rotation, turns),
            axis(self.max_translation, right),
            axis(self.max_translation, down),
        )
        return np.float32(list(itertools.product(*axes)))

    @override
    def sample(self, images: tf.Tensor, seed: Seed, scale: Scale = 1.0) -> tf.Tensor:
        """Draw a uniform transform for each image: float32 [batch, 3], degrees and pixels."""
        unit = draws.uniform([tf.shape(images)[0], 3], seed, -1.0, 1.0)
        return unit * self.limits * scale

    @property
    @override
    def solver(self) -> CandidateSearch:
        if self.search == "random":
            return RandomSearch(self, self.num_samples)
        return GridSearch(self, self.grid_points())

    @override
    def with_max_steps(self, max_steps: int) -> Spatial:
        """Return the set with fewer random draws; a grid is searched completely."""
        if self.search == "grid":
            return self
        return dataclasses.replace(self, num_samples=min(self.num_samples, max_steps))

    @override
    def apply(self, images: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
        """Compute A(θ)x + B; float32 parameters [batch, 3]: degrees, pixels right, pixels down."""
        return rotate_and_translate(images, parameters)

    @override
    def identity(self, images: tf.Tensor) -> tf.Tensor:
        return tf.zeros([tf.shape(images)[0], 3])

    @override
    def contains(self, parameters: tf.Tensor, scale: Scale = 1.0) -> tf.Tensor:
        return tf.reduce_all(tf.abs(parameters) <= self.limits * scale + 1e-4, axis=1)

    @override
    def relative_size(self, parameters: np.ndarray) -> np.ndarray:
        """Return the maximum of |θ| and ‖B‖_∞, each divided by its limit: float64 [batch]."""
        size = np.abs(np.asarray(parameters, np.float64))
        return fraction_of_bound(size, self.limits).max(axis=1)

    @property
    @override
    def range(self) -> str:
        return (
            f"|rotation| <= {self.max_rotation:g} degrees, "
            f"||translation||_inf <= {self.max_translation:g} pixels"
        )

    @property
    @override
    def distance_bound(self) -> str:
        return (
            f"(|rotation|, ||translation||_inf) <= ({self.max_rotation:g} degrees, "
            f"{self.max_translation:g} pixels)"
        )
