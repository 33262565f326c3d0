"""Pointwise, an L0 attack that queries only the predicted classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

import numpy as np
from typing_extensions import override

from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.minimal_norm import MinimalNormAttack
from keras_srt.attacks.target_model import QueryModel
from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.neighborhoods import L0
from keras_srt.neighborhoods.draws import fold

# Steps in which the share of noisy pixels grows from 0 to 1, and attempts with new noise.
_LEVELS, _TRIES = 20, 20


@component
class Pointwise(MinimalNormAttack):
    """Pointwise attack: adversarial noise, reset pixel by pixel while it stays adversarial.

    Salt-and-pepper noise grows until the image is adversarial, then new draws look for less noise.
    Changed pixels are reset to the original in random order while the image stays
    adversarial, until none can be reset; bisection moves the remaining ones towards the original.
    If noise never succeeds, the attack starts from another image of the batch that is adversarial.

    Source: Schott et al. 2019, section 5 (which also has the best of 10 runs).

    Args:
        epsilon, epsilons: Largest numbers of changed pixels, see `MinimalNormAttack`.
        restarts: Runs with different noise and orders; the fewest changed pixels win.
        noise_draws: Draws of less noise in each run.
        bisections: Bisection steps for each remaining pixel; they reduce the size of the
            perturbation, not the number of changed pixels.

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

    @override
    def find_nearest(
        self, model: QueryModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> np.ndarray:
        nearest, fewest = np.array(images), np.full(len(images), np.inf)
        rows = np.arange(len(images))
        for restart in model.progress.each(range(self.restarts)):
            draws = np.random.default_rng(np.asarray(fold(seed, restart)).view(np.uint32))
            started, success = _start(model, images[rows], criterion[rows], draws)
            # An image without a start has none in the next run either.
            rows = rows[success]
            run = _Run(model, images[rows], started[success], criterion[rows], draws)
            with model.progress.part(0.0, 0.2):
                run.draw_less_noise(self.noise_draws)
            with model.progress.part(0.2, 0.6):
                run.reset()
            with model.progress.part(0.6, 1.0):
                run.bisect(self.bisections)
            changed = np.any(run.images != images[rows], axis=-1).sum(axis=(1, 2))
            better = changed < fewest[rows]
            nearest[rows[better]], fewest[rows[better]] = run.images[better], changed[better]
        return nearest


def _start(
    model: QueryModel, images: np.ndarray, criterion: Criterion, draws: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Find adversarial images at any distance; return whether each search succeeded."""
    started, missing = np.array(images), np.arange(len(images))
    for _ in range(_TRIES):
        order = draws.random((*images.shape[:3], 1))
        noise = draws.integers(0, 2, images.shape)
        for level in range(1, _LEVELS + 1):
            if not len(missing):
                break
            noisy = np.where(order[missing] < level / _LEVELS, noise[missing], images[missing])
            noisy, aim = np.float32(noisy), criterion[missing]
            adversarial = aim.is_adversarial(model.predictions(noisy, aim).classes)
            started[missing[adversarial]] = noisy[adversarial]
            missing = missing[~adversarial]
    success = np.ones(len(images), bool)
    classes = model.predictions(images, criterion).classes if len(missing) else None
    for row in missing:
        others = np.flatnonzero(criterion[[row]].is_adversarial(classes))
        success[row] = len(others) > 0
        if success[row]:
            started[row] = images[draws.choice(others)]
    return started, success


class _Run:
    """Moves adversarial images back towards the originals, pixel by pixel.

    Args:
        model: The model under attack.
        originals: Original images, float32 [n, height, width, channels].
        started: Adversarial images of the same shape.
        criterion: The attack's criterion.
        draws: Random numbers for noise and orders.
    """

    def __init__(
        self,
        model: QueryModel,
        originals: np.ndarray,
        started: np.ndarray,
        criterion: Criterion,
        draws: np.random.Generator,
    ) -> None:
        self._model, self._criterion, self._draws = model, criterion, draws
        self.images = np.array(started)
        # Views: one row of pixels for each image, float32 [n, pixels, channels].
        height, width, channels = originals.shape[1:]
        self._now = self.images.reshape(len(started), height * width, channels)
        self._originals = originals.reshape(self._now.shape)

    def draw_less_noise(self, times: int) -> None:
        """Replace images by new noise on fewer pixels where it is adversarial, too."""
        for _ in self._model.progress.each(range(times)):
            count = self._changed(self._now).sum(axis=1)
            share = count / self._now.shape[1] * self._draws.uniform(0.5, 1.0, len(count))
            noisy = self._draws.random((*self._now.shape[:2], 1)) < share[:, None, None]
            noise = self._draws.integers(0, 2, self._now.shape)
            drawn = np.float32(np.where(noisy, noise, self._originals))
            rows = np.flatnonzero(self._changed(drawn).sum(axis=1) < count)
            if len(rows):
                rows = rows[self._is_adversarial(drawn[rows], rows)]
                self._now[rows] = drawn[rows]

    def reset(self) -> None:
        """Reset pixels in random order until no image can lose one more."""
        rows = np.arange(len(self._now))
        while len(rows):
            improved = np.zeros(len(self._now), bool)
            for indices, columns in self._changed_in_turn(rows):
                improved[indices] |= self._try(indices, columns, self._originals[indices, columns])
            rows = np.flatnonzero(improved)

    def bisect(self, times: int) -> None:
        """Move each remaining pixel towards the original while the image stays adversarial."""
        if not times:
            return
        for indices, columns in self._changed_in_turn(np.arange(len(self._now))):
            failed = self._originals[indices, columns]
            for _ in range(times):
                middle = (failed + self._now[indices, columns]) / 2
                success = self._try(indices, columns, middle)
                failed = np.where(success[:, None], failed, middle)

    def _changed_in_turn(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Iterate over the changed pixels, those of each image in its own random order.

        Yields:
            The images that have a pixel left, and the column of the pixel.
        """
        changed = self._changed(self._now)[rows]
        counts = changed.sum(axis=1)
        order = np.argsort(np.where(changed, self._draws.random(changed.shape), 2.0), axis=1)
        for turn in self._model.progress.each(range(counts.max(initial=0))):
            remaining = counts > turn
            yield rows[remaining], order[remaining, turn]

    def _try(self, rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Set a pixel in each image if it stays adversarial; return whether it was set."""
        trial = self._now[rows]
        trial[np.arange(len(rows)), columns] = values
        kept = self._is_adversarial(trial, rows)
        self._now[rows[kept], columns[kept]] = values[kept]
        return kept

    def _changed(self, images: np.ndarray) -> np.ndarray:
        """Which pixels differ from the originals, bool [n, pixels]."""
        return np.any(images != self._originals, axis=-1)

    def _is_adversarial(self, trial: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Whether these images [rows, pixels, channels] are adversarial, bool [rows]."""
        images = trial.reshape(-1, *self.images.shape[1:])
        criterion = self._criterion[rows]
        return criterion.is_adversarial(self._model.predictions(images, criterion).classes)
