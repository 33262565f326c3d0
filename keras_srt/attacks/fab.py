"""FAB, the fast adaptive boundary attack."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import pydantic
from typing_extensions import override

from keras_srt.attacks.apgd import likeliest_targets
from keras_srt.attacks.attack_losses import logit_difference, margin
from keras_srt.attacks.base import AttackResult
from keras_srt.attacks.criterion import Criterion, concatenate
from keras_srt.attacks.minimal_norm import MinimalNormAttack
from keras_srt.attacks.pixel_balls import BALLS
from keras_srt.attacks.repeated_runs import of_same_images, run_repeatedly
from keras_srt.attacks.target_model import TargetModel
from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods.lp import LpBall


def project_on_hyperplane(
    points: np.ndarray, normals: np.ndarray, change: np.ndarray, norm: str
) -> np.ndarray:
    """Compute the shortest step from points of the box [0, 1]^d to a hyperplane, in the box.

    min_δ ‖δ‖_p  with  w·δ = c  and  0 ≤ x + δ ≤ 1

    All coordinates move simultaneously, at time τ by τ in L∞ and by τ·|w_i| in L2, until they meet
    the box. This is optimal in either norm, so that only τ is unknown. Each iteration solves for τ
    with the coordinates that are still free, and fixes those that would leave the box; when none
    would, τ is exact.

    Args:
        points: float [n, d], x.
        normals: float [n, d], w.
        change: float [n], c.
        norm: "linf" or "l2".

    Returns:
        δ, of the shape of `points`. If the hyperplane misses the box, δ leads to the nearest
        corner.

    Example:
        >>> import numpy as np
        >>> points, normals = np.array([[0.5, 0.9]]), np.ones([1, 2])
        >>> step = project_on_hyperplane(points, normals, np.array([0.4]), "linf")
        >>> step.round(6)
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
        now_stopped = stopped | (time * speed >= room)
        if (now_stopped == stopped).all():
            return sign * np.where(stopped, room, time * speed)
        stopped = now_stopped


def _dot(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Sum the chosen values of each row; faster than `sum` with `where`."""
    return np.einsum("nd,nd->n", values, chosen.astype(values.dtype))


@component
class FABT(MinimalNormAttack):
    """FAB with one target class after another; keeps the nearest adversarial image.

    A step linearizes the model at x. With π the hyperplane f_t = f_y, it moves to

        x ← clip((1 - α)(x + η·δ(x)) + α(x₀ + η·δ(x₀))),  δ(·) the shortest step to π in the box,

    where α = min(‖δ(x)‖ / (‖δ(x)‖ + ‖δ(x₀)‖), α_max) is a bias towards the original x₀. An
    adversarial x is moved back to x₀ + β(x - x₀). The attack ends with a search along the line to
    x₀. It is deterministic. A step costs a gradient pass and a forward pass.

    Source: Croce & Hein 2020, "Minimally distorted adversarial examples with a fast adaptive
    boundary attack".

    Args:
        epsilon, epsilons: Radii, see `MinimalNormAttack`.
        norm_ball: "linf" or "l2".
        num_steps: Steps for each target class.
        num_targets: Number of target classes, the most likely first; a targeted attack uses only
            its own target.
        alpha_max: α_max, the largest weight of the step from the original.
        overshoot: η.
        backward: β.
        final_steps: Steps of the final line search.
        stop_early: Whether an image drops out after the first success within ε, as in AutoAttack;
            distances are then not minimal.

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
    @override
    def ball(self) -> type[LpBall]:
        return BALLS[self.norm_ball]

    @override
    def find_nearest(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> np.ndarray:
        aims = likeliest_targets(model, images, criterion, self.num_targets)

        def run(numbers: np.ndarray, active: np.ndarray) -> tuple[AttackResult, np.ndarray]:
            rows = np.tile(active, len(numbers))
            aim = concatenate([aims[number][active] for number in numbers])
            return self._run(model, images[rows], criterion[rows], aim, rows)

        found = run_repeatedly(images, run, len(aims), model.batch_size, model.progress)
        nearest = found.images
        moved = np.flatnonzero(found.parameters.any(axis=(1, 2, 3)))
        if len(moved):
            nearest[moved] = self._search_line(
                model, images[moved], nearest[moved], criterion[moved]
            )
        return nearest

    def _run(
        self,
        model: TargetModel,
        images: np.ndarray,
        criterion: Criterion,
        aim: Criterion,
        rows: np.ndarray,
    ) -> tuple[AttackResult, np.ndarray]:
        """Search towards one class in each row.

        With `stop_early`, all runs of an image, which has the same number in `rows`, end with the
        first success within ε.

        Returns:
            The nearest adversarial images, and their distances with a minus sign.
        """
        nearest, shortest = np.array(images), np.full(len(images), np.inf)
        success = np.zeros(len(images), bool)
        # A targeted attack crosses the boundary of its target, whichever class is on this side.
        loss = logit_difference if criterion.targets is None else margin
        now, active = images, np.arange(len(images))
        for _ in model.progress.each(range(self.num_steps)):
            origin, avoid = images[active], criterion[active]
            predictions, gradient = model.gradient(now, aim[active], loss)
            now = self._step(origin, now, predictions.loss, gradient)
            adversarial = avoid.is_adversarial(model.predictions(now, avoid).classes)
            length = self.ball.distance(np.subtract(now, origin, dtype=np.float64))
            closer = adversarial & (length < shortest[active])
            nearest[active[closer]], shortest[active[closer]] = now[closer], length[closer]
            back = origin + np.float32(self.backward) * (now - origin)
            now = np.where(adversarial[:, None, None, None], back, now)
            if self.stop_early:
                done = shortest[active] <= self.epsilon
                success[active[done]] = True
                left = ~of_same_images(rows[active], done)
                now, active = now[left], active[left]
            if not len(active):
                break
        return AttackResult(nearest, nearest - images, success), -shortest

    def _step(
        self, images: np.ndarray, now: np.ndarray, difference: np.ndarray, gradient: np.ndarray
    ) -> np.ndarray:
        """Take one step; `difference` is f_t - f_y at `now`, and `gradient` its gradient."""
        here, origin, normal = (part.reshape(len(images), -1) for part in (now, images, gradient))
        from_origin = np.einsum("nd,nd->n", normal, here - origin) - difference
        steps = [
            project_on_hyperplane(point, normal, change, self.norm_ball)
            for point, change in ((here, -difference), (origin, from_origin))
        ]
        lengths = [self.ball.distance(step.reshape(images.shape)) for step in steps]
        of_here, of_origin = np.maximum(lengths, 1e-8)
        alpha = np.minimum(of_here / (of_here + of_origin), self.alpha_max)[:, None]
        moved = (1 - alpha) * (here + self.overshoot * steps[0])
        moved += alpha * (origin + self.overshoot * steps[1])
        return np.float32(np.clip(moved, 0, 1)).reshape(images.shape)

    def _search_line(
        self, model: TargetModel, images: np.ndarray, start: np.ndarray, criterion: Criterion
    ) -> np.ndarray:
        """Move adversarial images closer along the lines to the originals, by interpolation."""
        nearest, far, near = np.array(start), np.ones(len(start)), np.zeros(len(start))
        (above, _), (below, _) = (_margins(model, x, criterion) for x in (start, images))
        for _ in range(self.final_steps):
            rise = above - below
            share = np.divide(-below, rise, out=np.ones_like(rise), where=rise > 0)
            # On the boundary itself half of the points are not adversarial: go a tenth beyond.
            at = near + (far - near) * (0.9 * np.clip(share, 0, 1) + 0.1)
            tried = np.float32(
                images + at[:, None, None, None] * np.subtract(start, images, dtype=np.float64)
            )
            value, success = _margins(model, tried, criterion)
            nearest[success] = tried[success]
            far, above = np.where(success, at, far), np.where(success, value, above)
            near, below = np.where(success, near, at), np.where(success, below, value)
        return nearest


def _margins(
    model: TargetModel, images: np.ndarray, criterion: Criterion
) -> tuple[np.ndarray, np.ndarray]:
    """Margins of the logits, and whether they are adversarial."""
    classes, above = model.predictions(images, criterion, margin)
    return np.asarray(above, np.float64), criterion.is_adversarial(classes)
