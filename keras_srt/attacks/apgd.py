"""Auto-PGD: gradient ascent in a pixel ball that chooses the lengths of its steps itself."""

from __future__ import annotations

import dataclasses
import itertools
from abc import abstractmethod
from dataclasses import field
from typing import Annotated, ClassVar, Literal

import numpy as np

from keras_srt.attacks.attack_losses import AttackLoss, cross_entropy, dlr
from keras_srt.attacks.base import Attack, AttackResult
from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.target_model import TargetModel
from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.core.validation import FloatOrFraction
from keras_srt.neighborhoods import L2, LInf
from keras_srt.neighborhoods.draws import fold
from keras_srt.neighborhoods.lp import LpBall

BALLS: dict[str, type[LpBall]] = {"linf": LInf, "l2": L2}

# The share of a step that is the gradient's; the rest goes on as the last step went.
_GRADIENT_SHARE = 0.75


def checkpoints(num_steps: int) -> list[int]:
    """The steps after which the lengths are reconsidered, ever closer to each other.

    Args:
        num_steps: steps of a run.

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
    """Whether the steps of an image have become too long.

    They have if at most a share ρ of the steps since the last checkpoint raised the
    loss, or if the best loss has stood still since then although they weren't halved there.

    Args:
        rises: int [n], steps since the last checkpoint that raised the loss.
        period: steps since the last checkpoint.
        rho: ρ.
        has_improved: bool [n], whether the best loss is higher than at the last checkpoint.
        halved: bool [n], whether the steps were halved there.

    Returns:
        bool [n].
    """
    return (rises <= rho * period) | (~halved & ~has_improved)


@dataclasses.dataclass
class _Ascent:
    """Where the ascent stands: each array has one row for each image still under attack."""

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
        """At the start, with steps of 2ε; at the first checkpoint ρ alone decides."""
        count = len(origin)
        return cls(
            origin, start, start, loss, gradient, np.array(start), np.array(loss),
            np.array(gradient), np.full(count, 2 * ball.epsilon, np.float32),
            np.zeros(count, int), np.array(loss), np.ones(count, bool),
        )  # fmt: skip

    def keep(self, rows: np.ndarray) -> None:
        """Goes on with these images alone."""
        for part in dataclasses.fields(self):
            setattr(self, part.name, getattr(self, part.name)[rows])

    def move(self, ball: LpBall, share: float) -> None:
        """A projected gradient step, of which this share is taken, and some of the last step."""
        towards = ball.direction(tf.constant(self.gradient)).numpy()
        there = _project(ball, self.origin, self.now + _wide(self.length) * towards)
        mixed = self.now + share * (there - self.now) + (1 - share) * (self.now - self.before)
        self.before, self.now = self.now, _project(ball, self.origin, mixed)

    def note(self, loss: np.ndarray, gradient: np.ndarray) -> None:
        """Takes in what was seen at the present images."""
        self.rises += loss > self.loss
        self.loss, self.gradient = loss, gradient
        better = loss > self.best_loss
        self.best[better], self.best_loss[better] = self.now[better], loss[better]
        self.best_gradient[better] = gradient[better]

    def check(self, period: int, rho: float) -> None:
        """Where steps have become too long, halves them and goes back to the best image."""
        has_improved = self.best_loss > self.last_best
        back = should_halve(self.rises, period, rho, has_improved, self.halved)
        self.length[back] /= 2
        self.now = np.where(_wide(back), self.best, self.now)
        self.gradient = np.where(_wide(back), self.best_gradient, self.gradient)
        self.rises[:], self.last_best, self.halved = 0, np.array(self.best_loss), back


def _wide(rows: np.ndarray) -> np.ndarray:
    return rows[:, None, None, None]


def _project(ball: LpBall, images: np.ndarray, moved: np.ndarray) -> np.ndarray:
    return ball.project(tf.constant(images), tf.constant(moved)).numpy()


@component
class AutoPGD(Attack):
    """Auto-PGD; a subclass says which loss it raises, and towards which classes.

    The first step is 2ε long. At `checkpoints`, `should_halve` decides for each image.
    Source: Croce & Hein 2020, section 3.

    Args:
        epsilon: ε, in units of pixel values in [0, 1].
        norm_ball: "linf" or "l2".
        num_steps: gradient steps of a run.
        restarts: runs, each from a random point; those after the first are for images not
            fooled yet.
        rho: ρ, of the rule that halves steps.
        eot_iter: passes whose mean is the gradient (and the loss), for a model that answers
            at random; an image counts as fooled where half of the passes are.
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
        """What it raises."""

    @property
    def neighborhood(self) -> LpBall:
        """The ball of the norm."""
        return BALLS[self.norm_ball](epsilon=self.epsilon, num_steps=self.num_steps)

    def aims(self, model: TargetModel, images: np.ndarray, criterion: Criterion) -> list[Criterion]:
        """What the loss of each run is about; a run ends with the criterion, reached on any way."""
        return [criterion]

    def run(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        """See `Attack.run`."""
        found, highest = np.array(images), np.full(len(images), -np.inf, np.float32)
        fooled = np.zeros(len(images), bool)
        runs = [aim for aim in self.aims(model, images, criterion) for _ in range(self.restarts)]
        for number, aim in enumerate(runs):
            active = np.flatnonzero(~fooled)
            if not len(active):
                break
            one, loss = self._run_once(
                model, images[active], criterion[active], aim[active], fold(seed, number)
            )
            better = one.fooled | (loss > highest[active])
            found[active[better]], highest[active[better]] = one.images[better], loss[better]
            fooled[active] = one.fooled
        return AttackResult(found, found - images, fooled)

    def _run_once(
        self,
        model: TargetModel,
        images: np.ndarray,
        criterion: Criterion,
        aim: Criterion,
        seed: tf.Tensor,
    ) -> tuple[AttackResult, np.ndarray]:
        """One run, and the loss of what it found. It costs a gradient pass more than steps."""
        ball, periods = self.neighborhood, dict(_periods(self.num_steps))
        found, highest = np.array(images), np.full(len(images), -np.inf, np.float32)
        fooled, active = np.zeros(len(images), bool), np.arange(len(images))
        start = self._start(ball, images, seed)
        reached, loss, gradient = self._look(model, start, criterion, aim)
        state = _Ascent.begin(ball, images, start, loss, gradient)
        for step in range(self.num_steps + 1):
            if step:
                state.move(ball, 1.0 if step == 1 else _GRADIENT_SHARE)
                reached, loss, gradient = self._look(
                    model, state.now, criterion[active], aim[active]
                )
                state.note(loss, gradient)
            better = reached | (loss > highest[active])
            found[active[better]], highest[active[better]] = state.now[better], loss[better]
            fooled[active[reached]] = True
            if reached.any():
                active = active[~reached]
                state.keep(~reached)
            if not len(active):
                break
            if step in periods:
                state.check(periods[step], self.rho)
        return AttackResult(found, found - images, fooled), highest

    def _start(self, ball: LpBall, images: np.ndarray, seed: tf.Tensor) -> np.ndarray:
        """A random point on the sphere of radius ε."""
        noise = BALLS[self.norm_ball](epsilon=1.0).sample(tf.constant(images), seed)
        unit = tf.math.divide_no_nan(noise, ball.norm(noise)[:, None, None, None])
        return _project(ball, images, images + self.epsilon * unit.numpy())

    def _look(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, aim: Criterion
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Whether the criterion is reached, the loss and its gradient, over `eot_iter` passes."""
        reached = np.zeros(len(images), int)
        loss, gradient = np.zeros(len(images), np.float32), np.zeros_like(images)
        for _ in range(self.eot_iter):
            answers, slope = model.gradient(images, aim, self.loss)
            reached += criterion.is_adversarial(answers.classes)
            loss += answers.loss / np.float32(self.eot_iter)
            gradient += slope / np.float32(self.eot_iter)
        return 2 * reached >= self.eot_iter, loss, gradient


def _periods(num_steps: int) -> list[tuple[int, int]]:
    """Checkpoints after the first, and how many steps lie before each."""
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
    def loss(self) -> AttackLoss:
        """CE(f(x), y)."""
        return cross_entropy


@component
class APGDDLR(AutoPGD):
    """Auto-PGD on the difference of logits ratio (`losses.dlr`). Arguments: see `AutoPGD`.

    Example:
        >>> APGDDLR(epsilon=0.5, norm_ball="l2").norm
        'l2'
    """

    name: ClassVar[str] = "apgd_dlr"

    @property
    def loss(self) -> AttackLoss:
        """DLR."""
        return dlr


@component
class APGDT(APGDDLR):
    """Auto-PGD on the targeted difference of logits ratio, towards one class after the other.

    The classes are those that the model holds for most likely on the untampered image; an
    image drops out with any answer that reaches the criterion.

    Args:
        num_targets: how many classes, if there are as many; a targeted attack aims at its own.
        epsilon: see `AutoPGD`, like the rest.

    Example:
        >>> APGDT(epsilon="8/255").num_targets
        9
    """

    name: ClassVar[str] = "apgd_t"

    num_targets: Annotated[int, validation.whole(1)] = 9

    def aims(self, model: TargetModel, images: np.ndarray, criterion: Criterion) -> list[Criterion]:
        """The most likely classes beside the label, one after the other."""
        return likeliest_targets(model, images, criterion, self.num_targets)


def likeliest_targets(
    model: TargetModel, images: np.ndarray, criterion: Criterion, count: int
) -> list[Criterion]:
    """Targeted criteria for an untargeted one: the likeliest other class, the next, and so on.

    Args:
        model: whose logits tell what is likely.
        images: float32 [n, height, width, channels] in [0, 1], untampered.
        criterion: a targeted criterion is the only one returned.
        count: how many classes, if there are as many beside the label.

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
