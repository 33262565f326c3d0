"""Search by candidates: of several θ for each image, the one of the highest loss."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from typing_extensions import Self

from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods.base import Neighborhood, Passes, PerExampleLoss, Perturbed, repeat
from keras_srt.neighborhoods.draws import Seed

# θ of each image, and the loss there: float32 [batch].
Worst = tuple[Any, "tf.Tensor"]


class CandidateSearch(Neighborhood):
    """A neighborhood that is searched by trying θ after θ, each image its own.

    The image itself is one more candidate, so that the loss never falls. A subclass has the
    field `num_samples`, how many draws there are for each image.
    """

    num_samples: int

    @property
    @abstractmethod
    def num_candidates(self) -> int:
        """How many θ are tried for each image; 0 if it isn't searched in this way."""

    @abstractmethod
    def candidates(
        self, images: tf.Tensor, seed: Seed, scale: float | tf.Tensor
    ) -> Callable[[int | tf.Tensor], tf.Tensor]:
        """The candidates, by their number.

        Args:
            images: float32 [batch, height, width, channels]; only their shape counts.
            seed: int32 [2], or of some rows, see `draws`.
            scale: share of the full neighborhood, from 0 to 1.

        Returns:
            A function from a number below `num_candidates` to θ of each image.
        """

    def maximize(
        self,
        images: tf.Tensor,
        loss_fn: PerExampleLoss,
        seed: Seed,
        scale: float | tf.Tensor = 1.0,
        start_loss: tf.Tensor | None = None,
    ) -> Perturbed:
        """The worst of the candidates; see `Neighborhood.maximize`."""
        images = tf.convert_to_tensor(images)
        candidate = self.candidates(images, seed, scale)

        def attempt(index: int | tf.Tensor, worst: Worst) -> Worst:
            tried = candidate(index)
            return keep_worse(tried, loss_fn(self.apply(images, tried)), worst)

        start = (self.unchanged(images), loss_fn(images) if start_loss is None else start_loss)
        parameters, loss = repeat(self.num_candidates, attempt, start)
        # Applying once more is cheaper than carrying the images along.
        return Perturbed(self.apply(images, parameters), parameters, loss)

    @property
    def rounds(self) -> int:
        """The random draws; a grid is searched as a whole."""
        return self.num_samples if getattr(self, "search", "random") == "random" else 1

    def with_max_steps(self, rounds: int) -> Self:
        """Fewer random draws."""
        if self.rounds == 1:
            return self
        return dataclasses.replace(self, num_samples=min(self.num_samples, rounds))

    @property
    def passes(self) -> Passes:
        """One forward pass a candidate."""
        return Passes(forward=self.num_candidates, gradient=0)


def keep_worse(tried: Any, loss: tf.Tensor, worst: Worst) -> Worst:
    """Of what was tried and the worst so far, image by image, that of the higher loss.

    Args:
        tried: θ of each image, a tensor or a structure of tensors [batch, …].
        loss: float32 [batch], the loss there.
        worst: θ and loss of the worst so far; it stays where both are alike.

    Returns:
        θ and loss.

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
