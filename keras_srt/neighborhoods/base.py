"""What every perturbed neighborhood N(x) = {T(x;θ) : dist(T(x;θ), x) ≤ ε} offers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np

from keras_srt.core.registry import Component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods.draws import Seed
from keras_srt.neighborhoods.draws import fold as fold

# Images [batch, height, width, channels] -> loss of each image [batch].
PerExampleLoss = Callable[["tf.Tensor"], "tf.Tensor"]

# Above this a Python loop makes a graph that takes minutes to trace; below it, unrolled
# steps run about 10% faster on CPU than `tf.while_loop`.
_MOST_UNROLLED = 64


class Perturbed(NamedTuple):
    """Images found in a neighborhood.

    Attributes:
        images: float32 [batch, height, width, channels] in [0, 1]: x' = T(x;θ).
        parameters: θ, as the neighborhood's `apply` takes it.
        loss: float32 [batch], the loss at `images`, or None where the search doesn't
            know it without another forward pass (gradient ascent).
    """

    images: tf.Tensor
    parameters: Any
    loss: tf.Tensor | None


class Passes(NamedTuple):
    """Passes through the model that a search costs, for each image.

    Attributes:
        forward: passes with no gradient.
        gradient: forward passes followed by the gradient with respect to the input.
    """

    forward: int
    gradient: int


class Neighborhood(Component):
    """The images that a tampering of bounded size makes of an image.

    A subclass is a component (its fields are its settings) with a `name`, a `kind`
    and the methods below. `scale` shrinks every bound alike: 0 leaves only the image,
    1 is the full neighborhood. It may be a tensor, so that one trace serves all sizes.
    """

    kind: ClassVar[str]
    has_kernels: ClassVar[bool] = True  # of XLA, for T(x;θ)

    @abstractmethod
    def apply(self, images: tf.Tensor, parameters: Any) -> tf.Tensor:
        """T(x;θ).

        Args:
            images: float32 [batch, height, width, channels] in [0, 1].
            parameters: θ for each image, in the form that `maximize` returns.

        Returns:
            float32, the shape of `images`, in [0, 1].
        """

    @abstractmethod
    def unchanged(self, images: tf.Tensor) -> Any:
        """The θ of each image, all 0, for which T(x;θ) is x to the last bit."""

    @abstractmethod
    def contains(self, parameters: Any, scale: float | tf.Tensor = 1.0) -> tf.Tensor:
        """Whether dist(T(x;θ), x) ≤ scale·ε, to float32 rounding: bool [batch]."""

    @abstractmethod
    def relative_size(self, parameters: Any) -> np.ndarray:
        """The share of its bound that θ uses: dist(T(x;θ), x) / ε.

        It is computed in NumPy's float64, for checks from outside of a search.

        Args:
            parameters: θ of each image, as arrays, in the form that `maximize` returns.

        Returns:
            float64 [batch]: 1 is on the bound, above 1 is outside; NaN becomes infinite.
        """

    @abstractmethod
    def maximize(
        self,
        images: tf.Tensor,
        loss_fn: PerExampleLoss,
        seed: Seed,
        scale: float | tf.Tensor = 1.0,
        start_loss: tf.Tensor | None = None,
    ) -> Perturbed:
        """Looks, for each image, for the worst x' in its neighborhood.

        max_{x'∈N(x)} loss(x')

        Args:
            images: float32 [batch, height, width, channels] in [0, 1].
            loss_fn: images -> loss of each image, float32 [batch].
            seed: int32 [2], or of some rows, see `draws`; the same seed gives the same result.
            scale: share of the full neighborhood, from 0 to 1.
            start_loss: float32 [batch], the loss at `images` if it is known already:
                it saves a forward pass where the search compares with it.

        Returns:
            The images found, their parameters and, where known, their loss.
        """

    @property
    @abstractmethod
    def passes(self) -> Passes:
        """What `maximize` costs when `start_loss` is given."""

    @property
    def wants_start(self) -> bool:
        """Whether `maximize` asks for the loss at the images if `start_loss` isn't given."""
        return self.passes.forward > 0

    @property
    def knows_loss(self) -> bool:
        """Whether `maximize` returns the loss at what it found."""
        return self.passes.forward > 0

    @property
    def compilable(self) -> bool:
        """Whether XLA has kernels for its search."""
        return all(stage.has_kernels for stage in self.stages_in_order)

    @property
    def rounds(self) -> int:
        """The most rounds that a loop of `maximize` makes: gradient steps or random draws."""
        return 1

    def with_max_steps(self, rounds: int) -> Neighborhood:
        """The same images, searched by at most that many rounds of each loop.

        Args:
            rounds: at least 1.

        Returns:
            A neighborhood of the same range.
        """
        return self

    @property
    @abstractmethod
    def range(self) -> str:
        """The perturbation range dist(T(x;θ), x) ≤ ε, as a line of text."""

    @property
    def stages_in_order(self) -> tuple[Neighborhood, ...]:
        """The single perturbations that make it up, in the order they are applied."""
        return (self,)

    def describe(self) -> dict[str, str]:
        """Type, order and range of the perturbation (patent CN111401445A, claims 4-9).

        The type follows from how many kinds of perturbation there are, the order from
        their sequence, and the range from both.

        Returns:
            `{"type": …, "order": …, "range": …}`.

        Example:
            >>> from keras_srt.neighborhoods import LInf
            >>> LInf(epsilon=0.3, num_steps=10).describe()["type"]
            'single'
        """
        kinds = [stage.kind for stage in self.stages_in_order]
        return {
            "type": "composite" if len(kinds) > 1 else "single",
            "order": " -> ".join(kinds),
            "range": self.range,
        }


def share_of(value: np.ndarray, bound: np.ndarray | float) -> np.ndarray:
    """value / bound in float64; 0/0 is 0, and NaN or what leaves a bound of 0 is infinite."""
    value, bound = np.broadcast_arrays(np.asarray(value, np.float64), np.asarray(bound, np.float64))
    share = np.divide(value, bound, out=np.where(value == 0, 0.0, np.inf), where=bound > 0)
    return np.where(np.isnan(share), np.inf, share)


def repeat(times: int, body: Callable[[Any, Any], Any], state: Any, size: int = 1) -> Any:
    """Runs `state = body(i, state)` for i in 0 … times-1, unrolled if that is short.

    Autograph is off inside `train_step`, so a Python loop over a tensor raises there;
    long loops therefore become `tf.while_loop`.

    Args:
        times: how often.
        body: (index, state) -> state of the same structure and shapes.
        state: a tensor or a structure of tensors.
        size: passes through the model of one round.

    Returns:
        The last state.
    """
    if times * size <= _MOST_UNROLLED or tf.executing_eagerly():
        for index in range(times):
            state = body(index, state)
        return state
    return tf.while_loop(
        lambda index, _: index < times,
        lambda index, now: (index + 1, body(index, now)),
        (tf.constant(0), state),
        parallel_iterations=1,
    )[1]
