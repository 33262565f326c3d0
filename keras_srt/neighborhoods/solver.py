"""Solvers: algorithms that search a neighborhood for the image with the highest loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods.draws import Seed

# Images [batch, height, width, channels] -> loss of each image [batch].
PerExampleLoss = Callable[["tf.Tensor"], "tf.Tensor"]
# Fraction of the full neighborhood, from 0 to 1.
Scale: TypeAlias = "float | tf.Tensor"

# Above this number of passes, tracing an unrolled Python loop takes minutes. Below it,
# unrolled steps run about 10% faster on CPU than `tf.while_loop`.
_MAX_UNROLLED_PASSES = 64


class Perturbed(NamedTuple):
    """The result of a search.

    Attributes:
        images: float32 [batch, height, width, channels] in [0, 1]: x' = T(x;θ).
        parameters: θ of each image, in the form that the neighborhood's `apply` takes.
        loss: float32 [batch], the loss at `images`, or None if the solver would need
            another forward pass to compute it (gradient ascent).
    """

    images: tf.Tensor
    parameters: Any
    loss: tf.Tensor | None


class Passes(NamedTuple):
    """Passes through the model per image.

    Attributes:
        forward: Forward passes without a gradient.
        gradient: Forward passes followed by the gradient with respect to the input.
    """

    forward: int
    gradient: int


class Solver(ABC):
    """Approximates max_{x'∈N(x)} loss(x') for each image x of a batch."""

    @property
    def returns_loss(self) -> bool:
        """Whether `maximize` returns the loss at the images that it found."""
        return True

    @property
    def max_steps(self) -> int:
        """Gradient steps or random draws of the longest loop in `maximize`."""
        return 1

    @property
    def starts_at_image(self) -> bool:
        """Whether the first gradient is taken at the unperturbed image."""
        return False

    @abstractmethod
    def maximize(
        self,
        images: tf.Tensor,
        loss_fn: PerExampleLoss,
        seed: Seed,
        scale: Scale = 1.0,
        start_loss: tf.Tensor | None = None,
    ) -> Perturbed:
        """Search the neighborhood of each image; see `Neighborhood.maximize`."""

    @abstractmethod
    def passes(self, start_known: bool = True) -> Passes:
        """Count the passes through the model that `maximize` makes.

        Args:
            start_known: Whether `start_loss` is given.

        Returns:
            Passes per image.
        """


def repeat(times: int, body: Callable[[Any, Any], Any], state: Any, num_passes: int = 1) -> Any:
    """Run `state = body(i, state)` for i in 0 … times-1; unroll short loops.

    Autograph is off inside `train_step`, so a Python loop over a tensor raises there.
    Long loops therefore use `tf.while_loop`.

    Args:
        times: Number of iterations.
        body: (index, state) -> state of the same structure and shapes.
        state: A tensor or a structure of tensors.
        num_passes: Passes through the model per iteration.

    Returns:
        The final state.
    """
    if times * num_passes <= _MAX_UNROLLED_PASSES or tf.executing_eagerly():
        for index in range(times):
            state = body(index, state)
        return state
    return tf.while_loop(
        lambda index, _: index < times,
        lambda index, now: (index + 1, body(index, now)),
        (tf.constant(0), state),
        parallel_iterations=1,
    )[1]
