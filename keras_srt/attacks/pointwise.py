"""Pointwise: few changed pixel values, found with nothing but the model's answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

import numpy as np

from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.minimal_norm import MinimalNormAttack
from keras_srt.attacks.target_model import TargetModel
from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import L0
from keras_srt.neighborhoods.draws import fold

# Steps in which the share of noisy pixel values grows from 0 to 1, and how often it does so
# with new noise where it never fooled.
_LEVELS, _TRIES = 20, 20


@component
class Pointwise(MinimalNormAttack):
    """Pointwise attack: noise that fools, taken back value by value as long as it fools.

    Salt-and-pepper noise grows until the criterion is reached; new draws then look for less of it
    that does. Every changed pixel value is set back to the original, in a random order, where
    the criterion stays reached, again and again until none can be; those left are moved towards
    the original by bisection. Noise never reaches some criteria: there the start is another
    image of the batch that does.
    It uses the model's classes alone.

    Source: Schott et al. 2019, section 5 (which also has the best of 10 runs).

    Args:
        epsilon, epsilons: how many changed pixel values count; see `MinimalNormAttack`.
        restarts: runs, each with its own noise and orders; the fewest changed values count.
        noise_draws: draws of ever less noise, of each run.
        bisections: halvings of the way of each value left to the original. They change no
            count and make the perturbation smaller; 0 leaves them out.

    Example:
        >>> Pointwise(epsilon=12).needs_gradients
        False
    """

    name: ClassVar[str] = "pointwise"
    ball: ClassVar[type[L0]] = L0
    needs_gradients: ClassVar[bool] = False

    restarts: Annotated[int, validation.whole(1)] = 3
    noise_draws: Annotated[int, validation.whole(0)] = 100
    bisections: Annotated[int, validation.whole(0)] = 10

    def find_nearest(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> np.ndarray:
        """See `MinimalNormAttack.find_nearest`."""
        nearest, fewest = np.array(images), np.full(len(images), np.inf)
        rows = np.arange(len(images))
        for restart in range(self.restarts):
            draws = np.random.default_rng(np.asarray(fold(seed, restart)).view(np.uint32))
            started, found = _start(model, images[rows], criterion[rows], draws)
            # What one run can't start from, the next one couldn't either.
            rows = rows[found]
            run = _Run(model, images[rows], started[found], criterion[rows], draws)
            run.draw_less_noise(self.noise_draws)
            run.reset()
            run.bisect(self.bisections)
            changed = np.count_nonzero(run.images != images[rows], axis=(1, 2, 3))
            better = changed < fewest[rows]
            nearest[rows[better]], fewest[rows[better]] = run.images[better], changed[better]
        return nearest


def _start(
    model: TargetModel, images: np.ndarray, criterion: Criterion, draws: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Images that reach the criterion, however far away, and bool [n], for which there is one."""
    started, missing = np.array(images), np.arange(len(images))
    for _ in range(_TRIES):
        order, noise = draws.random(images.shape), draws.integers(0, 2, images.shape)
        for level in range(1, _LEVELS + 1):
            if not len(missing):
                break
            noisy = np.where(order[missing] < level / _LEVELS, noise[missing], images[missing])
            noisy, aim = np.float32(noisy), criterion[missing]
            reached = aim.is_adversarial(model.answers(noisy, aim).classes)
            started[missing[reached]] = noisy[reached]
            missing = missing[~reached]
    found = np.ones(len(images), bool)
    classes = model.answers(images, criterion).classes if len(missing) else None
    for row in missing:
        others = np.flatnonzero(criterion[[row]].is_adversarial(classes))
        found[row] = len(others) > 0
        if found[row]:
            started[row] = images[draws.choice(others)]
    return started, found


class _Run:
    """Takes images that reach their criterion back to the originals, value by value.

    Args:
        model: the model under attack.
        originals: float32 [n, height, width, channels].
        started: the same shape; images that reach the criterion.
        criterion: of the attack.
        draws: of the orders.
    """

    def __init__(
        self,
        model: TargetModel,
        originals: np.ndarray,
        started: np.ndarray,
        criterion: Criterion,
        draws: np.random.Generator,
    ) -> None:
        self._target_model, self._goal, self._draws = model, criterion, draws
        self.images = np.array(started)
        # Views: one row of pixel values for each image.
        self._now = self.images.reshape(len(started), int(np.prod(originals.shape[1:])))
        self._originals = originals.reshape(self._now.shape)

    def draw_less_noise(self, times: int) -> None:
        """Replaces an image by new noise on fewer values where that reaches the criterion, too."""
        for _ in range(times):
            count = np.count_nonzero(self._now != self._originals, axis=1)
            share = count / self._now.shape[1] * self._draws.uniform(0.5, 1.0, len(count))
            noisy = self._draws.random(self._now.shape) < share[:, None]
            noise = self._draws.integers(0, 2, self._now.shape)
            drawn = np.float32(np.where(noisy, noise, self._originals))
            rows = np.flatnonzero(np.count_nonzero(drawn != self._originals, axis=1) < count)
            if len(rows):
                rows = rows[self._reaches(drawn[rows], rows)]
                self._now[rows] = drawn[rows]

    def reset(self) -> None:
        """Sets values back, in random orders, until no image can lose one more."""
        rows = np.arange(len(self._now))
        while len(rows):
            helped = np.zeros(len(self._now), bool)
            for those, columns in self._changed_in_turn(rows):
                helped[those] |= self._try(those, columns, self._originals[those, columns])
            rows = np.flatnonzero(helped)

    def bisect(self, times: int) -> None:
        """Moves each value left towards the original as far as the criterion stays reached."""
        if not times:
            return
        for those, columns in self._changed_in_turn(np.arange(len(self._now))):
            fails = self._originals[those, columns]
            for _ in range(times):
                middle = (fails + self._now[those, columns]) / 2
                fails = np.where(self._try(those, columns, middle), fails, middle)

    def _changed_in_turn(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """One changed value of each image after the other, each image in its own order.

        Yields:
            The images that have a value left, and its column.
        """
        changed = self._now[rows] != self._originals[rows]
        counts = changed.sum(axis=1)
        order = np.argsort(np.where(changed, self._draws.random(changed.shape), 2.0), axis=1)
        for turn in range(counts.max(initial=0)):
            left = counts > turn
            yield rows[left], order[left, turn]

    def _try(self, rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Sets a value in each of these images where the criterion stays reached: bool, where."""
        trial = self._now[rows]
        trial[np.arange(len(rows)), columns] = values
        kept = self._reaches(trial, rows)
        self._now[rows[kept], columns[kept]] = values[kept]
        return kept

    def _reaches(self, trial: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Whether these images [rows, values] reach the criteria of their rows: bool."""
        images = trial.reshape(-1, *self.images.shape[1:])
        return self._goal[rows].is_adversarial(
            self._target_model.answers(images, self._goal[rows]).classes
        )
