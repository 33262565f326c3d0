"""Attacks by gradient ascent in a pixel ball: FGSM, PGD and MI-FGSM."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, ClassVar, Literal

import numpy as np
import pydantic

from keras_srt.attacks.base import Attack, AttackResult
from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.target_model import TargetModel
from keras_srt.core import validation
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.core.validation import FloatOrFraction
from keras_srt.neighborhoods import L2, LInf
from keras_srt.neighborhoods.draws import fold
from keras_srt.neighborhoods.lp import LpBall

_BALLS = {"linf": LInf, "l2": L2}


def _ascend_until_fooled(
    ball: LpBall,
    model: TargetModel,
    images: np.ndarray,
    criterion: Criterion,
    seed: tf.Tensor,
    decay: float = 0.0,
) -> tuple[AttackResult, np.ndarray]:
    """One run of projected gradient ascent; returns the loss of what it found, too.

    The answer that comes with each gradient shows which images are fooled already; they
    drop out. k steps cost k gradient passes and a forward pass for what is left. With a
    decay μ > 0 the direction is g ← μ·g + ∇/‖∇‖₁ instead of the gradient ∇.
    """
    ascend = model.traced(ball.solver.step)
    found, highest = np.array(images), np.full(len(images), -np.inf, np.float32)
    fooled = np.zeros(len(images), bool)
    active, centers = np.arange(len(images)), images
    momentum = np.zeros_like(images)
    now = ball.solver.start(tf.constant(images), seed, 1.0).numpy()
    for step in range(ball.num_steps + 1):
        direction: np.ndarray | None = None
        if step == ball.num_steps:
            answers = model.answers(now, criterion[active])
        else:
            answers, direction = model.gradient(now, criterion[active])
        wrong = criterion[active].is_adversarial(answers.classes)
        better = wrong | (answers.loss > highest[active])
        found[active[better]], highest[active[better]] = now[better], answers.loss[better]
        fooled[active[wrong]] = True
        if direction is None or wrong.all():
            break
        if wrong.any():
            active, now, direction, momentum, centers = (
                rows[~wrong] for rows in (active, now, direction, momentum, centers)
            )
        if decay:
            direction = momentum = decay * momentum + _of_unit_l1_norm(direction)
        now = ascend(*map(tf.constant, (centers, now, direction)), 1.0).numpy()
    return AttackResult(found, found - images, fooled), highest


def _of_unit_l1_norm(gradient: np.ndarray) -> np.ndarray:
    size = np.abs(gradient).sum(axis=(1, 2, 3), keepdims=True, dtype=np.float64)
    return np.float32(np.divide(gradient, size, out=np.zeros_like(gradient, float), where=size > 0))


@component
class FGSM(Attack):
    """Fast gradient sign method: x + ε·sign(∇_x CE(f(x), y)), one step of ε.

    Source: Goodfellow et al. 2015.

    Args:
        epsilon: ε, in units of pixel values in [0, 1].

    Example:
        >>> FGSM(epsilon="8/255").norm
        'linf'
    """

    name: ClassVar[str] = "fgsm"

    epsilon: Annotated[FloatOrFraction, validation.real(0, 1)] = field(kw_only=False)

    @property
    def neighborhood(self) -> LInf:
        """The L∞ ball."""
        return LInf(epsilon=self.epsilon, num_steps=1, step_size=self.epsilon, random_start=False)

    def run(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        """See `Attack.run`."""
        return _ascend_until_fooled(self.neighborhood, model, images, criterion, seed)[0]


@component
class PGD(Attack):
    """Projected gradient descent with random starts.

    Source: Madry et al. 2018.

    Args:
        epsilon: ε, in units of pixel values in [0, 1].
        norm_ball: "linf" or "l2".
        num_steps: gradient steps of a run.
        step_size: length of a step; by default 2.5·ε/num_steps.
        random_start: whether a run starts at a random point of the ball.
        restarts: runs; those after the first are for images not fooled yet.

    Example:
        >>> PGD(epsilon=0.3, num_steps=40, step_size=0.01).restarts
        1
    """

    name: ClassVar[str] = "pgd"

    epsilon: Annotated[FloatOrFraction, validation.real(0)] = field(kw_only=False)
    norm_ball: Literal["linf", "l2"] = "linf"
    num_steps: Annotated[int, validation.whole(1)] = 40
    step_size: Annotated[float, validation.real(0)] | None = None
    random_start: pydantic.StrictBool = True
    restarts: Annotated[int, validation.whole(1)] = 1

    def __post_init__(self) -> None:
        if self.restarts > 1 and not self.random_start:
            raise InvalidSettings(
                [
                    f"restarts: got {self.restarts} with random_start false; allowed: 1, because "
                    "every run would be the same"
                ]
            )

    @property
    def neighborhood(self) -> LpBall:
        """The ball of the norm."""
        return _BALLS[self.norm_ball](
            epsilon=self.epsilon,
            num_steps=self.num_steps,
            step_size=self.step_size,
            random_start=self.random_start,
        )

    def run(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        """See `Attack.run`."""
        found, highest = np.array(images), np.full(len(images), -np.inf, np.float32)
        fooled = np.zeros(len(images), bool)
        for restart in range(self.restarts):
            active = np.flatnonzero(~fooled)
            if not len(active):
                break
            one, loss = _ascend_until_fooled(
                self.neighborhood, model, images[active], criterion[active], fold(seed, restart)
            )
            better = one.fooled | (loss > highest[active])
            found[active[better]], highest[active[better]] = one.images[better], loss[better]
            fooled[active] = one.fooled
        return AttackResult(found, found - images, fooled)


@component
class MIFGSM(Attack):
    """Momentum iterative FGSM: x ← x + α·direction(g) with g ← μ·g + ∇CE/‖∇CE‖₁.

    The direction is sign(g) in L∞ and g/‖g‖₂ in L2; it starts at the image itself.
    Source: Dong et al. 2018, algorithm 1: μ = 1, 10 steps, α = ε/10.

    Args:
        epsilon: ε, in units of pixel values in [0, 1].
        norm_ball: "linf" or "l2".
        num_steps: gradient steps.
        step_size: α; by default ε/num_steps.
        decay: μ; 0 is the plain iterative method.

    Example:
        >>> MIFGSM(epsilon=0.3).neighborhood.solver.step_size
        0.03
    """

    name: ClassVar[str] = "mi_fgsm"

    epsilon: Annotated[FloatOrFraction, validation.real(0)] = field(kw_only=False)
    norm_ball: Literal["linf", "l2"] = "linf"
    num_steps: Annotated[int, validation.whole(1)] = 10
    step_size: Annotated[float, validation.real(0)] | None = None
    decay: Annotated[float, validation.real(0)] = 1.0

    @property
    def neighborhood(self) -> LpBall:
        """The ball of the norm."""
        step = self.epsilon / self.num_steps if self.step_size is None else self.step_size
        return _BALLS[self.norm_ball](
            epsilon=self.epsilon, num_steps=self.num_steps, step_size=step, random_start=False
        )

    def run(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        """See `Attack.run`."""
        return _ascend_until_fooled(self.neighborhood, model, images, criterion, seed, self.decay)[
            0
        ]
