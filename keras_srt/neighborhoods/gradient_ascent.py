"""Projected gradient ascent, on the pixels of an Lp ball or on the parameters θ."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import TYPE_CHECKING

from typing_extensions import override

from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import draws
from keras_srt.neighborhoods.candidate_search import Worst, keep_worse
from keras_srt.neighborhoods.draws import Seed
from keras_srt.neighborhoods.solver import Passes, PerExampleLoss, Perturbed, Scale, Solver, repeat

if TYPE_CHECKING:
    from keras_srt.neighborhoods.base import Neighborhood
    from keras_srt.neighborhoods.color import Color
    from keras_srt.neighborhoods.lp import LpBall


@dataclasses.dataclass(frozen=True)
class GradientAscent(Solver):
    """x' ← project(x' + step_size·direction(∇loss(x'))), in a ball around x.

    The ball contributes `sample`, `direction` and `project`.
    Source: Madry et al. 2018, section 2.1.

    Args:
        ball: The set to search.
        num_steps: Gradient steps k.
        step_size: Length of a step at full scale.
        random_start: True starts at a random point of the ball, false at its center, a
            number σ at x + σ·N(0, 1).
        scale_steps: Whether steps shrink with the ball.
    """

    ball: LpBall
    num_steps: int
    step_size: float
    random_start: bool | float = True
    scale_steps: bool = True

    def start(self, images: tf.Tensor, seed: Seed, scale: Scale = 1.0) -> tf.Tensor:
        """Return the first iterate, which is inside the ball; see `random_start`."""
        if self.random_start is False:
            return images
        if self.random_start is True:
            noise = self.ball.sample(images, seed, scale)
        else:
            drawn = draws.normal(tf.shape(images), seed, images.dtype)
            noise = self.random_start * drawn
        return self.ball.project(images, images + noise, scale)

    def step(
        self,
        images: tf.Tensor,
        now: tf.Tensor,
        gradient: tf.Tensor,
        scale: Scale = 1.0,
    ) -> tf.Tensor:
        """Take one step from the iterate `now`, in the direction of a loss gradient."""
        length = self.step_size * scale if self.scale_steps else self.step_size
        moved = now + tf.cast(length, images.dtype) * self.ball.direction(gradient)
        return self.ball.project(images, moved, scale)

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

        def body(_: int | tf.Tensor, now: tf.Tensor) -> tf.Tensor:
            # With watch_accessed_variables=True, every step would track the weights.
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(now)
                loss = loss_fn(now)
            return self.step(images, now, tape.gradient(loss, now), scale)

        found = repeat(self.num_steps, body, self.start(images, seed, scale))
        return Perturbed(found, found - images, None)

    @override
    def passes(self, start_known: bool = True) -> Passes:
        return Passes(forward=0, gradient=self.num_steps)

    @property
    @override
    def returns_loss(self) -> bool:
        return False

    @property
    @override
    def max_steps(self) -> int:
        return self.num_steps

    @property
    @override
    def starts_at_image(self) -> bool:
        return self.random_start is False


@dataclasses.dataclass(frozen=True)
class ParameterSearch(Solver):
    """A search by gradients of the loss of T(x;θ) with respect to θ, keeping the worst iterate.

    The unperturbed image is an iterate, too, so the loss never decreases.

    Args:
        neighborhood: The set to search, whose parameters are one tensor.
        num_steps: Gradient steps k.
    """

    neighborhood: Neighborhood
    num_steps: int

    @abstractmethod
    def step(
        self,
        images: tf.Tensor,
        now: tf.Tensor,
        gradient: tf.Tensor,
        index: int | tf.Tensor,
        scale: Scale = 1.0,
    ) -> tf.Tensor:
        """Take one step.

        Args:
            images: float32 [batch, height, width, channels]: x.
            now: The parameters θ.
            gradient: ∇_θ loss(T(x;θ)), the shape of `now`.
            index: Number of earlier steps.
            scale: Fraction of the full neighborhood, from 0 to 1.

        Returns:
            The new parameters.
        """

    def start(self, images: tf.Tensor, seed: Seed, scale: Scale) -> tf.Tensor:
        """Return the first parameters: those of the unperturbed image."""
        return self.neighborhood.identity(images)

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

        def body(index: int | tf.Tensor, state: tuple[tf.Tensor, Worst]) -> tuple[tf.Tensor, Worst]:
            now, worst = state
            # With watch_accessed_variables=True, every step would track the weights.
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(now)
                loss = loss_fn(space.apply(images, now))
            gradient = tape.gradient(loss, now)
            return self.step(images, now, gradient, index, scale), keep_worse(now, loss, worst)

        unperturbed_loss = loss_fn(images) if start_loss is None else start_loss
        worst = (space.identity(images), unperturbed_loss)
        last, worst = repeat(self.num_steps, body, (self.start(images, seed, scale), worst))
        parameters, loss = keep_worse(last, loss_fn(space.apply(images, last)), worst)
        return Perturbed(space.apply(images, parameters), parameters, loss)

    @override
    def passes(self, start_known: bool = True) -> Passes:
        return Passes(forward=1 + (not start_known), gradient=self.num_steps)

    @property
    @override
    def max_steps(self) -> int:
        return self.num_steps

    @property
    @override
    def starts_at_image(self) -> bool:
        return True


@dataclasses.dataclass(frozen=True)
class ParameterAscent(ParameterSearch):
    """θ ← project(θ + step_size·limits·sign(∇_θ loss(T(x;θ)))).

    Args:
        neighborhood: The set to search.
        num_steps: Gradient steps k.
        step_size: Length of a step, as a fraction of each parameter's range.
        random_start: Whether the ascent starts at a random θ instead of θ = 0.
    """

    neighborhood: Color
    step_size: float
    random_start: bool = True

    @override
    def step(
        self,
        images: tf.Tensor,
        now: tf.Tensor,
        gradient: tf.Tensor,
        index: int | tf.Tensor,
        scale: Scale = 1.0,
    ) -> tf.Tensor:
        _, high = self.neighborhood.bounds(images, scale)
        return self.neighborhood.project(
            images, now + self.step_size * high * tf.sign(gradient), scale
        )

    @override
    def start(self, images: tf.Tensor, seed: Seed, scale: Scale) -> tf.Tensor:
        space = self.neighborhood
        return space.sample(images, seed, scale) if self.random_start else space.identity(images)

    @property
    @override
    def starts_at_image(self) -> bool:
        return not self.random_start
