"""FAB: the fast adaptive boundary attack, which looks for the nearest point of a boundary."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import pydantic

from keras_srt.attacks.apgd import BALLS, likeliest_targets
from keras_srt.attacks.attack_losses import logit_difference, margin
from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.minimal_norm import MinimalNormAttack
from keras_srt.attacks.target_model import TargetModel, classes_of
from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods.lp import LpBall


def shortest_way(
    points: np.ndarray, normals: np.ndarray, change: np.ndarray, norm: str
) -> np.ndarray:
    """The shortest way from points of the box [0, 1]^d to a hyperplane, within the box.

    min_δ ‖δ‖_p  with  w·δ = c  and  0 ≤ x + δ ≤ 1

    All coordinates move at once, at time τ by τ in L∞ and by τ·|w_i| in L2, each until it
    meets the box. That is optimal in either norm, so that only τ is left to find. Each
    guess at it, which takes the coordinates that move for free, shows some that have met
    the box; without them the next guess is later. The last one, which shows no more, is exact.

    Args:
        points: float [n, d], x.
        normals: float [n, d], w.
        change: float [n], c.
        norm: "linf" or "l2".

    Returns:
        δ, the shape of `points`. Where the hyperplane misses the box, the way leads to the
        corner next to it.

    Example:
        >>> import numpy as np
        >>> way = shortest_way(np.array([[0.5, 0.9]]), np.ones([1, 2]), np.array([0.4]), "linf")
        >>> way.round(6)
        array([[0.3, 0.1]])
    """
    sign = np.sign(normals) * np.where(change < 0, -1, 1).astype(points.dtype)[:, None]
    room = np.where(sign > 0, 1 - points, points)
    gain = np.abs(normals)
    speed = np.abs(sign) if norm == "linf" else gain
    full, pace = gain * room, gain * speed
    stopped = np.zeros(points.shape, bool)
    while True:
        left = np.abs(change) - _dot(full, stopped)
        rate = _dot(pace, ~stopped)
        time = np.divide(left, rate, out=np.zeros_like(left), where=rate > 0)[:, None]
        later = stopped | (time * speed >= room)
        if (later == stopped).all():
            return sign * np.where(stopped, room, time * speed)
        stopped = later


def _dot(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The sum of the chosen values of each row; faster than `sum` with `where`."""
    return np.einsum("nd,nd->n", values, chosen.astype(values.dtype))


@component
class FABT(MinimalNormAttack):
    """FAB towards one class after the other; the nearest image that fools is kept.

    A step takes the model as linear at x: with π the hyperplane f_t = f_y, it goes to

        x ← clip((1 - α)(x + η·δ(x)) + α(x₀ + η·δ(x₀))),  δ(·) the shortest way to π in the box,

    where α = min(‖δ(x)‖ / (‖δ(x)‖ + ‖δ(x₀)‖), α_max) draws it towards the image x₀, and
    goes back to x₀ + β(x - x₀) where the model is fooled. A search along the line to x₀ ends
    it. Nothing in it is random. A step costs a gradient pass and a forward pass.

    Source: Croce & Hein 2020, "Minimally distorted adversarial examples with a fast adaptive
    boundary attack".

    Args:
        epsilon: see `MinimalNormAttack`, like epsilons.
        norm_ball: "linf" or "l2".
        num_steps: steps towards each class.
        num_targets: how many classes, most likely first, if there are as many; a targeted
            attack aims at its own.
        alpha_max: α_max, how much a step is drawn towards the image at most.
        overshoot: η.
        backward: β.
        final_steps: steps of the search at the end.
        stop_early: whether an image drops out once a class was found within ε, as in
            AutoAttack; distances are then not those of the nearest.

    Example:
        >>> FABT(epsilon=0.3, epsilons=(0.1, 0.2)).num_targets
        9
    """

    name: ClassVar[str] = "fab_t"

    norm_ball: Literal["linf", "l2"] = "linf"
    num_steps: Annotated[int, validation.whole(1)] = 100
    num_targets: Annotated[int, validation.whole(1)] = 9
    alpha_max: Annotated[float, validation.real(0, 1)] = 0.1
    overshoot: Annotated[float, validation.real(1)] = 1.05
    backward: Annotated[float, validation.real(0, 1)] = 0.9
    final_steps: Annotated[int, validation.whole(0)] = 3
    stop_early: pydantic.StrictBool = False

    @property
    def ball(self) -> type[LpBall]:
        """The kind of ball, by its norm."""
        return BALLS[self.norm_ball]

    def find_nearest(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> np.ndarray:
        """See `MinimalNormAttack.find_nearest`."""
        nearest, shortest = np.array(images), np.full(len(images), np.inf)
        for aim in likeliest_targets(model, images, criterion, self.num_targets):
            active = np.arange(len(images))
            if self.stop_early:
                active = np.flatnonzero(shortest > self.epsilon)
            if not len(active):
                break
            found, length = self._towards(model, images[active], criterion[active], aim[active])
            closer = length < shortest[active]
            nearest[active[closer]], shortest[active[closer]] = found[closer], length[closer]
        found = np.flatnonzero(np.isfinite(shortest))
        if len(found):
            nearest[found] = self._search_line(
                model, images[found], nearest[found], criterion[found]
            )
        return nearest

    def _towards(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, aim: Criterion
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nearest image found on the way to one class, and its distance, or infinity."""
        nearest, shortest = np.array(images), np.full(len(images), np.inf)
        # Which boundary leads out of the label is no question for a targeted attack.
        loss = logit_difference if criterion.targets is None else margin
        now = images
        for _ in range(self.num_steps):
            answers, gradient = model.gradient(now, aim, loss)
            now = self._step(images, now, answers.loss, gradient)
            fooled = criterion.is_adversarial(model.answers(now, criterion).classes)
            length = self.ball.distance(np.subtract(now, images, dtype=np.float64))
            closer = fooled & (length < shortest)
            nearest[closer], shortest[closer] = now[closer], length[closer]
            back = images + np.float32(self.backward) * (now - images)
            now = np.where(fooled[:, None, None, None], back, now)
        return nearest, shortest

    def _step(
        self, images: np.ndarray, now: np.ndarray, difference: np.ndarray, gradient: np.ndarray
    ) -> np.ndarray:
        """One step; `difference` is f_t - f_y at `now`, whose gradient is given."""
        here, origin, normal = (part.reshape(len(images), -1) for part in (now, images, gradient))
        behind = np.einsum("nd,nd->n", normal, here - origin) - difference
        ways = [
            shortest_way(point, normal, change, self.norm_ball)
            for point, change in ((here, -difference), (origin, behind))
        ]
        lengths = [self.ball.distance(way.reshape(images.shape)) for way in ways]
        of_here, of_origin = np.maximum(lengths, 1e-8)
        alpha = np.minimum(of_here / (of_here + of_origin), self.alpha_max)[:, None]
        moved = (1 - alpha) * (here + self.overshoot * ways[0])
        moved += alpha * (origin + self.overshoot * ways[1])
        return np.float32(np.clip(moved, 0, 1)).reshape(images.shape)

    def _search_line(
        self, model: TargetModel, images: np.ndarray, found: np.ndarray, criterion: Criterion
    ) -> np.ndarray:
        """Nearer images on the lines to the untampered ones, by linear interpolation."""
        out, far, near = np.array(found), np.ones(len(found)), np.zeros(len(found))
        (above, _), (below, _) = (_margins(model, x, criterion) for x in (found, images))
        for _ in range(self.final_steps):
            rise = above - below
            share = np.divide(-below, rise, out=np.ones_like(rise), where=rise > 0)
            # Right on the boundary half of them would fool: a tenth of the rest is added.
            at = near + (far - near) * (0.9 * np.clip(share, 0, 1) + 0.1)
            tried = np.float32(
                images + at[:, None, None, None] * np.subtract(found, images, dtype=np.float64)
            )
            value, fooled = _margins(model, tried, criterion)
            out[fooled] = tried[fooled]
            far, above = np.where(fooled, at, far), np.where(fooled, value, above)
            near, below = np.where(fooled, near, at), np.where(fooled, below, value)
        return out


def _margins(
    model: TargetModel, images: np.ndarray, criterion: Criterion
) -> tuple[np.ndarray, np.ndarray]:
    """How far the logits are beyond the boundary, and whether the criterion is reached."""
    logits = model.logits(images)
    targets = None if criterion.targets is None else tf.constant(criterion.targets, tf.int32)
    above = margin(tf.constant(logits), tf.constant(criterion.labels, tf.int32), targets)
    return np.asarray(above, np.float64), criterion.is_adversarial(classes_of(logits))
