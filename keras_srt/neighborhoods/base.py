"""The base class of perturbed neighborhoods N(x) = {T(x;θ) : dist(T(x;θ), x) ≤ ε}."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from keras_srt.core.registry import Component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods.draws import Seed
from keras_srt.neighborhoods.solver import Passes, PerExampleLoss, Perturbed, Scale, Solver

# T₁ and T₂ of patent CN111401445A, claim 9.
_PATENT_NUMBERS: dict[tuple[str, ...], str] = {("pixel", "spatial"): "1", ("spatial", "pixel"): "2"}


class Neighborhood(Component):
    """The set of images that a perturbation of bounded size can produce from an image.

    A subclass is a component: its fields are its settings. The set is defined by `apply`,
    `identity`, `contains`, `relative_size` and `sample`. The search for the worst image of the
    set is a separate object, `solver`, which the subclass builds from its settings.

    `scale` multiplies every bound: 0 leaves only the image, 1 is the full neighborhood.
    It may be a tensor, so that one trace serves all sizes.

    Attributes:
        name: The name in configs.
        kind: The kind of perturbation: "pixel", "spatial", "color" or "composite".
        has_kernels: Whether XLA has kernels for T(x;θ).
    """

    kind: ClassVar[str]
    has_kernels: ClassVar[bool] = True

    @abstractmethod
    def apply(self, images: tf.Tensor, parameters: Any) -> tf.Tensor:
        """Compute T(x;θ).

        Args:
            images: float32 [batch, height, width, channels] in [0, 1].
            parameters: θ of each image, in the form that `maximize` returns.

        Returns:
            float32, the shape of `images`, in [0, 1].
        """

    @abstractmethod
    def identity(self, images: tf.Tensor) -> Any:
        """Return θ = 0 for each image, for which T(x;θ) equals x bit for bit."""

    @abstractmethod
    def sample(self, images: tf.Tensor, seed: Seed, scale: Scale = 1.0) -> Any:
        """Draw a random θ of the neighborhood for each image.

        Args:
            images: float32 [batch, height, width, channels]; only the shape matters.
            seed: int32 [2], or a `RowSeed`; the same seed gives the same draws.
            scale: Fraction of the full neighborhood, from 0 to 1.

        Returns:
            θ of each image, in the form that `apply` takes.
        """

    @abstractmethod
    def contains(self, parameters: Any, scale: Scale = 1.0) -> tf.Tensor:
        """Test whether dist(T(x;θ), x) ≤ scale·ε, up to float32 rounding: bool [batch]."""

    @abstractmethod
    def relative_size(self, parameters: Any) -> np.ndarray:
        """Compute dist(T(x;θ), x) / ε in NumPy's float64, for checks outside of a search.

        Args:
            parameters: θ of each image, as arrays, in the form that `maximize` returns.

        Returns:
            float64 [batch]: 1 is on the boundary, above 1 is outside; NaN gives infinity.
        """

    @property
    @abstractmethod
    def solver(self) -> Solver:
        """The algorithm that searches this neighborhood, with the settings of its fields."""

    def maximize(
        self,
        images: tf.Tensor,
        loss_fn: PerExampleLoss,
        seed: Seed,
        scale: Scale = 1.0,
        start_loss: tf.Tensor | None = None,
    ) -> Perturbed:
        """Search the neighborhood of each image for the highest loss with `solver`.

        max_{x'∈N(x)} loss(x')

        Args:
            images: float32 [batch, height, width, channels] in [0, 1].
            loss_fn: images -> loss of each image, float32 [batch].
            seed: int32 [2], or a `RowSeed`; the same seed gives the same result.
            scale: Fraction of the full neighborhood, from 0 to 1.
            start_loss: float32 [batch], the loss at `images` if it is already known. It
                saves a forward pass if the solver compares with this loss.

        Returns:
            The perturbed images, their parameters and, if known, their loss.
        """
        return self.solver.maximize(images, loss_fn, seed, scale, start_loss)

    @property
    def passes(self) -> Passes:
        """Passes through the model per image in `maximize` when `start_loss` is given."""
        return self.solver.passes()

    def with_max_steps(self, max_steps: int) -> Neighborhood:
        """Return the same set with a solver that makes at most `max_steps` steps per loop.

        Args:
            max_steps: Limit for gradient steps and for random draws; at least 1.

        Returns:
            A neighborhood of the same range.
        """
        return self

    @property
    @abstractmethod
    def range(self) -> str:
        """The perturbation range dist(T(x;θ), x) ≤ ε, as a line of text."""

    @property
    def distance_bound(self) -> str:
        """The distance and its bound, as a line of text; by default `range`."""
        return self.range

    @property
    def stages_in_order(self) -> tuple[Neighborhood, ...]:
        """The single perturbations of this neighborhood, in the order of application."""
        return (self,)

    @property
    def compilable(self) -> bool:
        """Whether XLA can compile the search."""
        return all(stage.has_kernels for stage in self.stages_in_order)

    def describe(self) -> dict[str, str]:
        """Describe the perturbation as patent CN111401445A does in claims 4-9, [0264]-[0265].

        The type is "single" if all stages are of one kind, else "composite". The order is the
        sequence of the kinds. The distance of T is that of its last stage: the worst of the
        stages before belongs to T.

        Returns:
            `{"type": …, "order": …, "range": …, "distance": …}`.

        Example:
            >>> from keras_srt.neighborhoods import LInf
            >>> LInf(epsilon=0.3, num_steps=10).describe()["distance"]
            'dist(T(x), x) = ||r||_inf <= 0.3 (pixel values in [0, 1])'
        """
        stages = self.stages_in_order
        kinds = tuple(stage.kind for stage in stages)
        number = _PATENT_NUMBERS.get(kinds, "")
        distance = f"dist{number}(T{number}(x), x) = {stages[-1].distance_bound}"
        if len(stages) > 1:
            worst = "; ".join(stage.range for stage in stages[:-1])
            distance += f"; T{number} contains the worst of {worst}"
        return {
            "type": "composite" if len(set(kinds)) > 1 else "single",
            "order": " -> ".join(kinds),
            "range": self.range,
            "distance": distance,
        }


def fraction_of_bound(value: np.ndarray, bound: np.ndarray | float) -> np.ndarray:
    """Compute value / bound in float64; 0/0 gives 0, NaN and nonzero/0 give infinity."""
    value, bound = np.broadcast_arrays(np.asarray(value, np.float64), np.asarray(bound, np.float64))
    share = np.divide(value, bound, out=np.where(value == 0, 0.0, np.inf), where=bound > 0)
    return np.where(np.isnan(share), np.inf, share)
