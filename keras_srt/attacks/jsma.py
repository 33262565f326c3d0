"""JSMA, an L0 attack with saliency maps of the Jacobian."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from typing_extensions import override

from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.minimal_norm import MinimalNormAttack
from keras_srt.attacks.target_model import TargetModel, classes_of
from keras_srt.core import validation
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import L0


@component
class JSMA(MinimalNormAttack):
    """Jacobian-based saliency map attack: changes pairs of pixel values by θ.

    Each step chooses, among the values that can still change, the pair (p, q) with the largest
    -α·β, where α = ∂_p f_t + ∂_q f_t > 0 and β = Σ_{j≠t} (∂_p f_j + ∂_q f_j) < 0; for θ < 0 both
    signs are reversed. Untargeted, every other class is the target t in turn, the most likely
    first, and the result is the image with the fewest changed pixels; an image drops out of a turn
    that can't improve it. A pair costs two gradient passes, for any number of classes.

    Source: Papernot et al. 2016, algorithm 3, with logits.

    Args:
        epsilon, epsilons: Largest numbers of changed pixels, see `MinimalNormAttack`.
        theta: θ, the change of a value, from -1 to 1 and not 0; values are clipped to [0, 1].
        gamma: γ, the share of the pixel values that may change.

    Example:
        >>> JSMA(epsilon=12).norm
        'l0'
    """

    name: ClassVar[str] = "jsma"
    ball: ClassVar[type[L0]] = L0

    theta: Annotated[float, validation.real(-1, 1)] = 1.0
    gamma: Annotated[float, validation.real(0, 1)] = 1.0

    def __post_init__(self) -> None:
        if not self.theta:
            raise InvalidSettings(["theta: got 0; allowed: a number from -1 to 1, not 0"])

    @override
    def find_nearest(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> np.ndarray:
        nearest, fewest = np.array(images), np.full(len(images), np.inf)
        logits = model.logits(images)
        for targets in model.progress.each(list(_targets_in_turn(criterion, logits))):
            weights = np.eye(logits.shape[1], dtype=np.float32)[targets]
            candidates, changed = self._search_target(model, images, criterion, weights, fewest)
            better = changed < fewest
            nearest[better], fewest[better] = candidates[better], changed[better]
        return nearest

    def _search_target(
        self,
        model: TargetModel,
        images: np.ndarray,
        criterion: Criterion,
        weights: np.ndarray,
        fewest: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Change pairs to raise the target logits, whose one-hot rows are `weights`.

        Returns:
            The images and their numbers of changed pixels, which are infinite for images that are
            not adversarial with fewer than `fewest`.
        """
        now, changed = np.array(images), np.full(len(images), np.inf)
        active, pairs = np.arange(len(images)), int(self.gamma * images[0].size / 2)
        for pair in model.progress.each(range(pairs + 1)):
            logits, gain = model.pullback(now[active], weights[active])
            success = criterion[active].is_adversarial(classes_of(logits))
            changed[active[success]] = _count(now, images, active[success])
            active, gain = active[~success], gain[~success]
            if pair == pairs or not len(active):
                break
            _, others = model.pullback(now[active], 1 - weights[active])
            active = active[self._change_best_pairs(now, active, gain, others)]
            active = active[_count(now, images, active) < fewest[active]]
        return now, changed

    def _change_best_pairs(
        self, now: np.ndarray, active: np.ndarray, gain: np.ndarray, others: np.ndarray
    ) -> np.ndarray:
        """Change the best pair of each active image in place; return whether there was one."""
        sign, flat = np.sign(self.theta), now.reshape(len(now), -1)
        free = flat[active] < 1 if sign > 0 else flat[active] > 0
        gain, drop = (
            (sign * part.reshape(free.shape)).astype(np.float64) for part in (gain, -others)
        )
        pairs, exists = best_pairs(gain, drop, free)
        rows = active[exists, None]
        flat[rows, pairs[exists]] = np.clip(flat[rows, pairs[exists]] + self.theta, 0, 1)
        return exists


def best_pairs(
    gain: np.ndarray, drop: np.ndarray, free: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find in each row the pair (p, q) with the largest (u_p + u_q)·(v_p + v_q), both sums > 0.

    The result is exact and needs memory for rows·d values, not for d² pairs: a value that two
    others match or exceed in both u and v can be replaced by one of them, so that the best pair
    is among the values with at most one such other. These are few unless u and v oppose.

    Args:
        gain: u, float64 [rows, d].
        drop: v, float64 [rows, d].
        free: Values that may be in a pair, bool [rows, d].

    Returns:
        Columns int [rows, 2], and whether there is such a pair, bool [rows].

    Example:
        >>> u, v = np.array([[3.0, 1, -1, 2]]), np.array([[-2.0, 1, 5, 0]])
        >>> best_pairs(u, v, np.ones((1, 4), bool))  # (3 - 1)·(-2 + 5) = 6
        (array([[0, 2]]), array([ True]))
    """
    # Descending u: values that match or exceed another one in both come before it.
    order = np.argsort(np.where(free, -gain, np.inf), axis=1, kind="stable")
    gain, drop, free = (np.take_along_axis(part, order, axis=1) for part in (gain, drop, free))
    drop = np.where(free, drop, -np.inf)
    largest = np.maximum.accumulate(drop, axis=1)
    runner_up = np.minimum(drop[:, 1:], largest[:, :-1])
    second = np.maximum.accumulate(np.pad(runner_up, ((0, 0), (1, 0)), constant_values=-np.inf), 1)
    kept = free.copy()
    kept[:, 1:] &= drop[:, 1:] > second[:, :-1]
    first = np.argsort(~kept, axis=1, kind="stable")[:, : max(2, kept.sum(axis=1).max(initial=0))]
    gain, drop, order = (
        np.take_along_axis(part, first, axis=1)
        for part in (np.where(kept, gain, -np.inf), drop, order)
    )
    return _best_of_all_pairs(gain, drop, order)


def _best_of_all_pairs(
    gain: np.ndarray, drop: np.ndarray, names: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Try all pairs of columns, one column with all later ones at a time; -inf is no value."""
    best, rows = np.zeros(len(gain)), np.arange(len(gain))
    pairs = np.zeros((len(gain), 2), int)
    for column in range(gain.shape[1] - 1):
        u = gain[:, column, None] + gain[:, column + 1 :]
        v = drop[:, column, None] + drop[:, column + 1 :]
        score = np.maximum(u, 0) * np.maximum(v, 0)
        other = np.argmax(score, axis=1)
        better = score[rows, other] > best
        best[better] = score[rows, other][better]
        pairs[better] = np.stack([names[:, column], names[rows, column + 1 + other]], 1)[better]
    return pairs, best > 0


def _targets_in_turn(criterion: Criterion, logits: np.ndarray) -> np.ndarray:
    """Target classes, int [turns, n]: the target, or all except the label, likeliest first."""
    if criterion.targets is not None:
        return criterion.targets[None]
    logits = np.array(logits)
    logits[np.arange(len(logits)), criterion.labels] = -np.inf
    return np.argsort(-logits, axis=1, kind="stable").T[:-1]


def _count(now: np.ndarray, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Number of changed pixels in each of these rows."""
    return (now[rows] != images[rows]).any(axis=-1).sum(axis=(1, 2))
