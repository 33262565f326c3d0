"""Exhaustive search: every step and every transform on every image, none of them left out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_srt.attacks import PGD, GridAdv, TargetModel
from keras_srt.attacks.criterion import Criterion
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import Passes
from keras_srt.neighborhoods.draws import fold


class Searched(NamedTuple):
    """What exhaustive search found, and what it shows of the cost.

    Attributes:
        fooled: bool [n], whether anything fooled the model.
        needed: image passes that are needed if an image is left alone once it is fooled.
        every: image passes with nothing left out.
        rounds: those of `needed` one after the other, where each is a query of its own (a
            query of a grid search holds several transforms).
    """

    fooled: np.ndarray
    needed: Passes
    every: Passes
    rounds: tuple[Passes, ...] = ()


def search_grid(
    attack: GridAdv, target_model: TargetModel, images: np.ndarray, criterion: Criterion
) -> Searched:
    """Every transform of the grid on every image, the most extreme first, as the attack has it.

    Args:
        attack: GridAdv, .R or .T.
        target_model: the model.
        images: float32 [n, height, width, channels] in [0, 1].
        criterion: of the attack.
    """
    space = attack.neighborhood
    points = space.grid_points()
    size = np.abs(points / np.maximum(space.limits, 1e-6)).sum(axis=1)
    reached = np.zeros((len(points), len(images)), bool)
    for number, point in enumerate(points[np.argsort(-size, kind="stable")]):
        moved = space.apply(tf.constant(images), tf.constant(np.tile(point, (len(images), 1))))
        reached[number] = criterion.is_adversarial(
            target_model.predictions(moved.numpy(), criterion).classes
        )
    tried = first_or_last(reached) + 1
    return Searched(reached.any(axis=0), Passes(int(tried.sum()), 0), Passes(int(reached.size), 0))


def search_steps(
    attack: PGD,
    target_model: TargetModel,
    images: np.ndarray,
    criterion: Criterion,
    seed: tf.Tensor,
) -> Searched:
    """All steps of one run of PGD on every image; each point of the way may fool.

    Args:
        attack: PGD without restarts.
        target_model: the model.
        images: float32 [n, height, width, channels] in [0, 1].
        criterion: of the attack.
        seed: int32 [2], as the attack gets it.
    """
    ball = attack.neighborhood
    now = ball.solver.start(tf.constant(images), fold(seed, 0), 1.0)
    reached = np.zeros((ball.num_steps + 1, len(images)), bool)
    for step in range(ball.num_steps):
        answers, gradient = target_model.gradient(now.numpy(), criterion)
        reached[step] = criterion.is_adversarial(answers.classes)
        now = ball.solver.step(tf.constant(images), now, tf.constant(gradient), 1.0)
    reached[-1] = criterion.is_adversarial(target_model.predictions(now.numpy(), criterion).classes)
    # Every point but the last is asked about together with its gradient.
    tried = first_or_last(reached)
    left = [int((tried >= step).sum()) for step in range(ball.num_steps + 1)]
    rounds = (*(Passes(0, n) for n in left[:-1]), Passes(left[-1], 0))
    return Searched(
        reached.any(axis=0),
        Passes(left[-1], sum(left[:-1])),
        Passes(len(images), ball.num_steps * len(images)),
        rounds,
    )


def first_or_last(reached: np.ndarray) -> np.ndarray:
    """For each column the number of the first row that is true, of the last where none is.

    Example:
        >>> first_or_last(np.array([[False, True], [False, True], [False, False]]))
        array([2, 0])
    """
    return np.where(reached.any(axis=0), reached.argmax(axis=0), len(reached) - 1)
