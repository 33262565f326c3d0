"""Gradient ascent in a pixel ball: FGSM, PGD and MI-FGSM."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, ClassVar, Literal

import numpy as np
import pydantic
from typing_extensions import override

from keras_srt.attacks.base import Attack, AttackResult
from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.pixel_balls import BALLS
from keras_srt.attacks.repeated_runs import run_repeatedly
from keras_srt.attacks.target_model import TargetModel
from keras_srt.core import validation
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.core.validation import FloatOrFraction
from keras_srt.neighborhoods import LInf
from keras_srt.neighborhoods.draws import fold
from keras_srt.neighborhoods.lp import LpBall


def _ascend(
    ball: LpBall,
    model: TargetModel,
    images: np.ndarray,
    criterion: Criterion,
    seed: tf.Tensor,
    decay: float = 0.0,
) -> tuple[AttackResult, np.ndarray]:
    """Make one run of projected gradient ascent; also return the loss of each result.

    An image drops out when the predictions that come with each gradient are adversarial. k steps
    cost at most k gradient passes and a forward pass for each image. With a decay μ > 0 the
    direction is g ← μ·g + ∇/‖∇‖₁ instead of the gradient ∇.
    """
    ascend = model.traced(ball.solver.step)
    worst, highest = np.array(images), np.full(len(images), -np.inf, np.float32)
    success = np.zeros(len(images), bool)
    active, centers = np.arange(len(images)), images
    momentum = np.zeros_like(images)
    now = ball.solver.start(tf.constant(images), seed, 1.0).numpy()
    for step in model.progress.each(range(ball.num_steps + 1)):
        direction: np.ndarray | None = None
        if step == ball.num_steps:
            predictions = model.predictions(now, criterion[active])
        else:
            predictions, direction = model.gradient(now, criterion[active])
        adversarial = criterion[active].is_adversarial(predictions.classes)
        better = adversarial | (predictions.loss > highest[active])
        worst[active[better]], highest[active[better]] = now[better], predictions.loss[better]
        success[active[adversarial]] = True
        if direction is None or adversarial.all():
            break
        if adversarial.any():
            active, now, direction, momentum, centers = (
                rows[~adversarial] for rows in (active, now, direction, momentum, centers)
            )
        if decay:
            direction = momentum = decay * momentum + _unit_l1(direction)
        now = ascend(*map(tf.constant, (centers, now, direction)), 1.0).numpy()
    return AttackResult(worst, worst - images, success), highest


def _unit_l1(gradient: np.ndarray) -> np.ndarray:
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
    @override
    def neighborhood(self) -> LInf:
        return LInf(epsilon=self.epsilon, num_steps=1, step_size=self.epsilon, random_start=False)

    @override
    def search(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        return _ascend(self.neighborhood, model, images, criterion, seed)[0]


@component
class PGD(Attack):
    """Projected gradient descent with random starts.

    Source: Madry et al. 2018.

    Args:
        epsilon: ε, in units of pixel values in [0, 1].
        norm_ball: "linf" or "l2".
        num_steps: Gradient steps of a run.
        step_size: Size of a step; by default 2.5·ε/num_steps.
        random_start: Whether a run starts at a random point of the ball.
        restarts: Number of runs; an image drops out after a success.

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
    @override
    def neighborhood(self) -> LpBall:
        return BALLS[self.norm_ball](
            epsilon=self.epsilon,
            num_steps=self.num_steps,
            step_size=self.step_size,
            random_start=self.random_start,
        )

    @override
    def search(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        def run(numbers: np.ndarray, active: np.ndarray) -> tuple[AttackResult, np.ndarray]:
            parts = images[active], criterion[active], fold(seed, int(numbers[0]))
            return _ascend(self.neighborhood, model, *parts)

        return run_repeatedly(images, run, self.restarts, progress=model.progress)


@component
class MIFGSM(Attack):
    """Momentum iterative FGSM: x ← x + α·direction(g) with g ← μ·g + ∇CE/‖∇CE‖₁.

    The direction is sign(g) in L∞ and g/‖g‖₂ in L2. The ascent starts at the image.

    Source: Dong et al. 2018, algorithm 1: μ = 1, 10 steps, α = ε/10.

    Args:
        epsilon: ε, in units of pixel values in [0, 1].
        norm_ball: "linf" or "l2".
        num_steps: Gradient steps.
        step_size: α; by default ε/num_steps.
        decay: μ; 0 gives iterative FGSM without momentum.

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
    @override
    def neighborhood(self) -> LpBall:
        step = self.epsilon / self.num_steps if self.step_size is None else self.step_size
        return BALLS[self.norm_ball](
            epsilon=self.epsilon, num_steps=self.num_steps, step_size=step, random_start=False
        )

    @override
    def search(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        return _ascend(self.neighborhood, model, images, criterion, seed, self.decay)[0]
