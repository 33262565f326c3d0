"""Search by candidates: the θ with the highest loss among random draws or grid points."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods.draws import Seed, fold
from keras_srt.neighborhoods.solver import Passes, PerExampleLoss, Perturbed, Scale, Solver, repeat

if TYPE_CHECKING:
    from keras_srt.neighborhoods.base import Neighborhood

# θ of each image, and the loss at T(x;θ): float32 [batch].
Worst = tuple[Any, "tf.Tensor"]


@dataclasses.dataclass(frozen=True)
class CandidateSearch(Solver):
    """The worst of several θ for each image, and of the unperturbed image.

    Because the unperturbed image is a candidate, the loss never decreases.

    Args:
        neighborhood: The set to search.
    """

    neighborhood: Neighborhood

    @property
    @abstractmethod
    def num_candidates(self) -> int:
        """Number of candidates for each image, without the unperturbed image."""

    @abstractmethod
    def candidates(
        self, images: tf.Tensor, seed: Seed, scale: Scale
    ) -> Callable[[int | tf.Tensor], Any]:
        """Return a function from an index below `num_candidates` to θ of each image.

        Args:
            images: float32 [batch, height, width, channels]; only the shape matters.
            seed: int32 [2], or a `RowSeed`.
            scale: Fraction of the full neighborhood, from 0 to 1.
        """

    @override
    def maximize(
        self,
        images: tf.Tensor,
        loss_fn: PerExampleLoss,
        seed: Seed,
        scale: Scale = 1.0,
        start_loss: tf.Tensor | None = None,
    ) -> Perturbed:
        images, space = tf.convert_to_tensor(images), self.neighborhood
        candidate = self.candidates(images, seed, scale)

        def attempt(index: int | tf.Tensor, worst: Worst) -> Worst:
            tried = candidate(index)
            return keep_worse(tried, loss_fn(space.apply(images, tried)), worst)

        start = (space.identity(images), loss_fn(images) if start_loss is None else start_loss)
        parameters, loss = repeat(self.num_candidates, attempt, start)
        # Recomputing T(x;θ) costs less than keeping the images in the loop state.
        return Perturbed(space.apply(images, parameters), parameters, loss)

    @override
    def passes(self, start_known: bool = True) -> Passes:
        return Passes(forward=self.num_candidates + (not start_known), gradient=0)


@dataclasses.dataclass(frozen=True)
class RandomSearch(CandidateSearch):
    """The worst of k random draws for each image.

    Args:
        neighborhood: The set to search.
        num_samples: k.
    """

    num_samples: int

    @property
    @override
    def num_candidates(self) -> int:
        return self.num_samples

    @property
    @override
    def max_steps(self) -> int:
        return self.num_samples

    @override
    def candidates(
        self, images: tf.Tensor, seed: Seed, scale: Scale
    ) -> Callable[[int | tf.Tensor], Any]:
        return lambda index: self.neighborhood.sample(images, fold(seed, index), scale)


@dataclasses.dataclass(frozen=True)
class GridSearch(CandidateSearch):
    """The worst of a fixed list of θ, the same for every image.

    Args:
        neighborhood: The set to search.
        points: float32 [candidates, parameters].
    """

    points: np.ndarray

    @property
    @override
    def num_candidates(self) -> int:
        return len(self.points)

    @override
    def candidates(
        self, images: tf.Tensor, seed: Seed, scale: Scale
    ) -> Callable[[int | tf.Tensor], Any]:
        points, num_images = tf.constant(self.points), tf.shape(images)[0]
        return lambda index: tf.repeat(points[index][None] * scale, num_images, axis=0)


@dataclasses.dataclass(frozen=True)
class SingleDraw(Solver):
    """One random θ for each image, without any pass through the model.

    Args:
        neighborhood: The set to draw from.
    """

    neighborhood: Neighborhood

    @property
    @override
    def returns_loss(self) -> bool:
        return False

    @override
    def maximize(
        self,
        images: tf.Tensor,
        loss_fn: PerExampleLoss,
        seed: Seed,
        scale: Scale = 1.0,
        start_loss: tf.Tensor | None = None,
    ) -> Perturbed:
        images = tf.convert_to_tensor(images)
        drawn = self.neighborhood.sample(images, seed, scale)
        return Perturbed(self.neighborhood.apply(images, drawn), drawn, None)

    @override
    def passes(self, start_known: bool = True) -> Passes:
        return Passes(forward=0, gradient=0)


def keep_worse(tried: Any, loss: tf.Tensor, worst: Worst) -> Worst:
    """Keep, for each image, the θ with the higher loss.

    Args:
        tried: θ of each image, a tensor or a structure of tensors [batch, …].
        loss: float32 [batch], the loss of `tried`.
        worst: The worst θ so far and its loss; it is kept if both losses are equal.

    Returns:
        θ and its loss.

    Example:
        >>> import tensorflow as tf
        >>> θ, loss = keep_worse(tf.constant([[1.0], [2.0]]), tf.constant([5.0, 0.0]),
        ...                      (tf.zeros([2, 1]), tf.constant([3.0, 3.0])))
        >>> θ.numpy().ravel(), loss.numpy()
        (array([1., 0.], dtype=float32), array([5., 3.], dtype=float32))
    """
    parameters, highest = worst
    better = loss > highest

    def choose(new: tf.Tensor, old: tf.Tensor) -> tf.Tensor:
        return tf.where(tf.reshape(better, [-1] + [1] * (new.shape.rank - 1)), new, old)

    chosen = tf.nest.map_structure(choose, tried, parameters)
    return chosen, tf.where(better, loss, highest)
