"""Auto-PGD: projected gradient ascent that adapts its step sizes."""

from __future__ import annotations

import dataclasses
import itertools
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import field
from functools import partial
from typing import Annotated, ClassVar, Literal

import numpy as np
from typing_extensions import override

from keras_srt.attacks.attack_losses import AttackLoss, cross_entropy, dlr
from keras_srt.attacks.base import Attack, AttackResult
from keras_srt.attacks.criterion import Criterion, concatenate
from keras_srt.attacks.pixel_balls import BALLS
from keras_srt.attacks.repeated_runs import of_same_images, run_repeatedly
from keras_srt.attacks.target_model import TargetModel
from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.core.validation import FloatOrFraction
from keras_srt.neighborhoods.draws import fold
from keras_srt.neighborhoods.lp import LpBall

# Weight of the gradient step; the rest repeats the previous step (momentum).
_GRADIENT_SHARE = 0.75


def checkpoints(num_steps: int) -> list[int]:
    """Steps at which the step sizes are reconsidered, at shrinking intervals.

    Args:
        num_steps: Steps of a run.

    Returns:
        0 and the checkpoints, ascending.

    Example:
        >>> checkpoints(100)
        [0, 22, 41, 57, 70, 80, 87, 93, 99]
    """
    points, period = [0], max(int(0.22 * num_steps), 1)
    while points[-1] + period <= num_steps:
        points.append(points[-1] + period)
        period = max(period - max(int(0.03 * num_steps), 1), max(int(0.06 * num_steps), 1))
    return points


def should_halve(
    rises: np.ndarray, period: int, rho: float, has_improved: np.ndarray, halved: np.ndarray
) -> np.ndarray:
    """Decide for each image whether to halve its step size.

    The step size is halved if at most a share ρ of the steps since the last checkpoint raised the
    loss, or if the best loss has not improved since then although the step size was not halved.

    Args:
        rises: Steps since the last checkpoint that raised the loss, int [n].
        period: Steps since the last checkpoint.
        rho: ρ.
        has_improved: Whether the best loss has improved since the last checkpoint, bool [n].
        halved: Whether the step size was halved at the last checkpoint, bool [n].

    Returns:
        bool [n].
    """
    return (rises <= rho * period) | (~halved & ~has_improved)


@dataclasses.dataclass
class _Ascent:
    """State of the ascent; each array has one row for each active image."""

    origin: np.ndarray
    now: np.ndarray
    before: np.ndarray
    loss: np.ndarray
    gradient: np.ndarray
    best: np.ndarray
    best_loss: np.ndarray
    best_gradient: np.ndarray
    length: np.ndarray  # of a step
    rises: np.ndarray  # since the last checkpoint
    last_best: np.ndarray  # the best loss at the last checkpoint
    halved: np.ndarray  # at the last checkpoint

    @classmethod
    def begin(
        cls,
        ball: LpBall,
        origin: np.ndarray,
        start: np.ndarray,
        loss: np.ndarray,
        gradient: np.ndarray,
    ) -> _Ascent:
        """Initial state: steps of 2ε; at the first checkpoint only ρ decides."""
        count = len(origin)
        return cls(
            origin, start, start, loss, gradient, np.array(start), np.array(loss),
            np.array(gradient), np.full(count, 2 * ball.epsilon, np.float32),
            np.zeros(count, int), np.array(loss), np.ones(count, bool),
        )  # fmt: skip

    def keep(self, rows: np.ndarray) -> None:
        """Drop all other images."""
        for part in dataclasses.fields(self):
            setattr(self, part.name, getattr(self, part.name)[rows])

    def move(self, step: Callable[..., tf.Tensor], share: float) -> None:
        """Take a step: `_step` of the ball, traced."""
        parts = (self.origin, self.now, self.before, self.gradient, self.length)
        moved = step(*map(tf.constant, parts), tf.constant(share, tf.float32))
        self.before, self.now = self.now, moved.numpy()

    def record(self, loss: np.ndarray, gradient: np.ndarray) -> None:
        """Record the loss and gradient at the current images."""
        self.rises += loss > self.loss
        self.loss, self.gradient = loss, gradient
        better = loss > self.best_loss
        self.best[better], self.best_loss[better] = self.now[better], loss[better]
        self.best_gradient[better] = gradient[better]

    def check(self, period: int, rho: float) -> None:
        """Halve step sizes that are too large, and return to the best images there."""
        has_improved = self.best_loss > self.last_best
        halve = should_halve(self.rises, period, rho, has_improved, self.halved)
        self.length[halve] /= 2
        self.now = np.where(_wide(halve), self.best, self.now)
        self.gradient = np.where(_wide(halve), self.best_gradient, self.gradient)
        self.rises[:], self.last_best, self.halved = 0, np.array(self.best_loss), halve


def _wide(rows: np.ndarray) -> np.ndarray:
    return rows[:, None, None, None]


def _step(
    ball: LpBall,
    origin: tf.Tensor,
    now: tf.Tensor,
    before: tf.Tensor,
    gradient: tf.Tensor,
    length: tf.Tensor,
    share: tf.Tensor,
) -> tf.Tensor:
    """Take a projected gradient step of weight `share`, and momentum of weight 1 - share."""
    stepped = ball.project(origin, now + length[:, None, None, None] * ball.direction(gradient))
    mixed = now + share * (stepped - now) + (1.0 - share) * (now - before)
    return ball.project(origin, mixed)


@component
class AutoPGD(Attack):
    """Base class of Auto-PGD; a subclass chooses the loss and the target classes.

    The first step has size 2ε. At each of the `checkpoints`, `should_halve` decides for each image.
    A run costs num_steps + 1 gradient passes for each image.

    Source: Croce & Hein 2020, section 3.

    Args:
        epsilon: ε, in units of pixel values in [0, 1].
        norm_ball: "linf" or "l2".
        num_steps: Gradient steps of a run.
        restarts: Runs, each from a random point; an image drops out after a success.
        rho: ρ, the threshold of the rule that halves step sizes.
        eot_iter: Passes over which the loss and gradient of a randomized model are averaged; an
            image is adversarial if it is so in at least half of the passes.
    """

    epsilon: Annotated[FloatOrFraction, validation.real(0)] = field(kw_only=False)
    norm_ball: Literal["linf", "l2"] = "linf"
    num_steps: Annotated[int, validation.whole(1)] = 100
    restarts: Annotated[int, validation.whole(1)] = 1
    rho: Annotated[float, validation.real(0, 1)] = 0.75
    eot_iter: Annotated[int, validation.whole(1)] = 1

    @property
    @abstractmethod
    def loss(self) -> AttackLoss:
        """Loss to maximize."""

    @property
    @override
    def neighborhood(self) -> LpBall:
        return BALLS[self.norm_ball](epsilon=self.epsilon, num_steps=self.num_steps)

    def loss_criteria(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion
    ) -> list[Criterion]:
        """Criteria that the losses of successive runs maximize; success is still `criterion`."""
        return [criterion]

    @override
    def search(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        aims = self.loss_criteria(model, images, criterion)
        aims = [aim for aim in aims for _ in range(self.restarts)]

        def run(numbers: np.ndarray, active: np.ndarray) -> tuple[AttackResult, np.ndarray]:
            rows = np.tile(active, len(numbers))
            aim = concatenate([aims[number][active] for number in numbers])
            seeds = [fold(seed, int(number)) for number in numbers]
            starts = [self._start(self.neighborhood, images[active], one) for one in seeds]
            parts = images[rows], criterion[rows], aim, np.concatenate(starts), rows
            return self._run(model, *parts)

        return run_repeatedly(images, run, len(aims), model.batch_size, model.progress)

    def _run(
        self,
        model: TargetModel,
        images: np.ndarray,
        criterion: Criterion,
        aim: Criterion,
        start: np.ndarray,
        rows: np.ndarray,
    ) -> tuple[AttackResult, np.ndarray]:
        """Make runs, one for each row; also return the loss of each result.

        All runs of an image, which has the same number in `rows`, end with the first success.
        """
        ball, periods = self.neighborhood, dict(_periods(self.num_steps))
        move = model.traced(partial(_step, ball), (_step, ball))
        worst, highest = np.array(images), np.full(len(images), -np.inf, np.float32)
        success, active = np.zeros(len(images), bool), np.arange(len(images))
        adversarial, loss, gradient = self._evaluate(model, start, criterion, aim)
        state = _Ascent.begin(ball, images, start, loss, gradient)
        for step in model.progress.each(range(self.num_steps + 1)):
            if step:
                state.move(move, 1.0 if step == 1 else _GRADIENT_SHARE)
                adversarial, loss, gradient = self._evaluate(
                    model, state.now, criterion[active], aim[active]
                )
                state.record(loss, gradient)
            better = adversarial | (loss > highest[active])
            worst[active[better]], highest[active[better]] = state.now[better], loss[better]
            success[active[adversarial]] = True
            if adversarial.any():
                left = ~of_same_images(rows[active], adversarial)
                active = active[left]
                state.keep(left)
            if not len(active):
                break
            if step in periods:
                state.check(periods[step], self.rho)
        return AttackResult(worst, worst - images, success), highest

    def _start(self, ball: LpBall, images: np.ndarray, seed: tf.Tensor) -> np.ndarray:
        """Draw a random point on the sphere of radius ε."""
        noise = BALLS[self.norm_ball](epsilon=1.0).sample(tf.constant(images), seed)
        unit = tf.math.divide_no_nan(noise, ball.norm(noise)[:, None, None, None])
        return ball.project(tf.constant(images), images + self.epsilon * unit).numpy()

    def _evaluate(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, aim: Criterion
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Success, loss and gradient over `eot_iter` passes."""
        votes = np.zeros(len(images), int)
        loss, gradient = np.zeros(len(images), np.float32), np.zeros_like(images)
        for _ in range(self.eot_iter):
            predictions, slope = model.gradient(images, aim, self.loss)
            votes += criterion.is_adversarial(predictions.classes)
            loss += predictions.loss / np.float32(self.eot_iter)
            gradient += slope / np.float32(self.eot_iter)
        return 2 * votes >= self.eot_iter, loss, gradient


def _periods(num_steps: int) -> list[tuple[int, int]]:
    """Checkpoints after the first, and the number of steps before each."""
    points = checkpoints(num_steps)
    return [(point, point - last) for last, point in itertools.pairwise(points)]


@component
class APGDCE(AutoPGD):
    """Auto-PGD on the cross-entropy. Arguments: see `AutoPGD`.

    Example:
        >>> APGDCE(epsilon="8/255").num_steps
        100
    """

    name: ClassVar[str] = "apgd_ce"

    @property
    @override
    def loss(self) -> AttackLoss:
        return cross_entropy


@component
class APGDDLR(AutoPGD):
    """Auto-PGD on the difference of logits ratio (`dlr`). Arguments: see `AutoPGD`.

    Example:
        >>> APGDDLR(epsilon=0.5, norm_ball="l2").norm
        'l2'
    """

    name: ClassVar[str] = "apgd_dlr"

    @property
    @override
    def loss(self) -> AttackLoss:
        return dlr


@component
class APGDT(APGDDLR):
    """Auto-PGD on the targeted difference of logits ratio, one target class after another.

    The targets are the most likely other classes of the clean image. Any adversarial prediction is
    a success. For the other arguments see `AutoPGD`.

    Args:
        epsilon: ε, in units of pixel values in [0, 1].
        num_targets: Number of target classes; a targeted attack uses only its own target.

    Example:
        >>> APGDT(epsilon="8/255").num_targets
        9
    """

    name: ClassVar[str] = "apgd_t"

    num_targets: Annotated[int, validation.whole(1)] = 9

    @override
    def loss_criteria(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion
    ) -> list[Criterion]:
        return likeliest_targets(model, images, criterion, self.num_targets)


def likeliest_targets(
    model: TargetModel, images: np.ndarray, criterion: Criterion, count: int
) -> list[Criterion]:
    """Targeted criteria for an untargeted one: the most likely other class, the next, and so on.

    Args:
        model: The model under attack.
        images: Clean images, float32 [n, height, width, channels] in [0, 1].
        criterion: The attack's criterion; if it is targeted, it is the only one returned.
        count: Largest number of criteria; there is at most one for each class except the label.

    Returns:
        One criterion for each rank.
    """
    if criterion.targets is not None:
        return [criterion]
    logits = model.logits(images)
    is_label = np.arange(logits.shape[1]) == criterion.labels[:, None]
    ranked = np.argsort(np.where(is_label, np.inf, -logits), axis=1, kind="stable")
    ranks = min(count, logits.shape[1] - 1)
    return [Criterion(criterion.labels, np.int32(ranked[:, rank])) for rank in range(ranks)]
