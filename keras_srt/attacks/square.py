"""Square attack: random search with shrinking square windows, with queries only."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, ClassVar, Literal

import numpy as np
import pydantic
from typing_extensions import override

from keras_srt.attacks.attack_losses import cross_entropy, margin
from keras_srt.attacks.base import Attack, AttackResult
from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.pixel_balls import BALLS
from keras_srt.attacks.target_model import QueryModel
from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.core.validation import FloatOrFraction
from keras_srt.neighborhoods.lp import LpBall

# Of 10,000 queries, those after which the share of the image in a window is halved.
_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_REFERENCE_QUERIES = 10_000


class _Draws:
    """Random numbers for each image, independent of which other images drop out."""

    def __init__(self, seed: tf.Tensor, count: int) -> None:
        self._generator = np.random.default_rng(np.asarray(seed).astype(np.uint32))
        self._count = count
        self.active = np.arange(count)

    def coins(self, *shape: int) -> np.ndarray:
        """Fair coins: bool [active, *shape]."""
        return self._generator.integers(0, 2, (self._count, *shape), bool)[self.active]

    def signs(self, *shape: int) -> np.ndarray:
        """-1 or 1: float32 [active, *shape]."""
        return np.where(self.coins(*shape), np.float32(1), np.float32(-1))

    def corners(self, height: int, width: int, side: int) -> np.ndarray:
        """First row and column of a random window: int [active, 2]."""
        last = (height - side + 1, width - side + 1)
        return self._generator.integers(0, last, (self._count, 2))[self.active]


def _stripes(images: np.ndarray, epsilon: float, draws: _Draws) -> np.ndarray:
    """L∞ start: shift every column and channel by ±ε."""
    _, _, width, channels = images.shape
    return _clipped(images, images + np.float32(epsilon) * draws.signs(1, width, channels), epsilon)


def _paint(
    images: np.ndarray, best: np.ndarray, epsilon: float, share: float, draws: _Draws
) -> np.ndarray:
    """L∞ proposal: shift each channel in a window by ±ε."""
    _, height, width, channels = images.shape
    side = max(1, round((share * height * width) ** 0.5))
    side = min(side, height, width)
    inside = _mask(draws.corners(height, width, side), side, images.shape)
    # A shift by 2ε reaches the edge of the ball from any point; clipping does the rest.
    moved = best + np.float32(2 * epsilon) * inside * draws.signs(1, 1, channels)
    return _clipped(images, moved, epsilon)


def _clipped(images: np.ndarray, moved: np.ndarray, epsilon: float) -> np.ndarray:
    epsilon = np.float32(epsilon)
    return np.clip(moved, np.maximum(images - epsilon, 0), np.minimum(images + epsilon, 1))


def _mask(corners: np.ndarray, side: int, shape: tuple[int, ...]) -> np.ndarray:
    """Whether each pixel is inside the windows, bool [n, height, width, 1]."""
    rows, columns = (
        (np.arange(size) >= first[:, None]) & (np.arange(size) < first[:, None] + side)
        for size, first in zip(shape[1:3], corners.T, strict=True)
    )
    return rows[:, :, None, None] & columns[:, None, :, None]


def _bumps(images: np.ndarray, epsilon: float, draws: _Draws) -> np.ndarray:
    """L2 start: 5×5 tiles, each with `_pattern` in a random orientation and sign."""
    count, height, width, channels = images.shape
    side = max(1, min(height, width) // 5)
    rows, columns = height // side, width // side
    pattern = _pattern(side)
    transposed = draws.coins(rows, columns)[..., None, None]
    tiles = np.where(transposed, pattern.T, pattern)[..., None]
    tiles = tiles * draws.signs(rows, columns, 1, 1, channels)
    covered = tiles.transpose(0, 1, 3, 2, 4, 5).reshape(
        count, rows * side, columns * side, channels
    )
    above, before = (height - rows * side) // 2, (width - columns * side) // 2
    below, after = height - rows * side - above, width - columns * side - before
    everywhere = np.pad(covered, ((0, 0), (above, below), (before, after), (0, 0)))
    return _scaled(images, everywhere, epsilon)


def _transfer(
    images: np.ndarray, best: np.ndarray, epsilon: float, share: float, draws: _Draws
) -> np.ndarray:
    """L2 proposal: move the norm of one window's perturbation to a pattern in another."""
    _, height, width, channels = images.shape
    side = _odd_side(share, height, width)
    here, there = (draws.corners(height, width, side) for _ in range(2))
    delta = best - images
    both = _mask(here, side, images.shape) | _mask(there, side, images.shape)
    squared = np.square(delta)
    unused = np.maximum(epsilon**2 - squared.sum(axis=(1, 2, 3), keepdims=True), 0)
    available = np.sqrt((squared * both).sum(axis=(1, 2), keepdims=True) + unused / channels)
    pattern, transposed = _pattern(side), draws.coins(1, 1)
    bump = np.where(transposed, pattern.T, pattern)[..., None] * draws.signs(1, 1, channels)
    window, emptied = _window(here, side), _window(there, side)
    grown = _unit(bump + _unit(delta[window]))
    delta[emptied] = 0
    delta[window] = available * grown
    return _scaled(images, delta, epsilon)


def _odd_side(share: float, height: int, width: int) -> int:
    """Side of a window: odd and, if the image is large enough, at least 3 pixels."""
    side = max(3, round((share * height * width) ** 0.5))
    side, most = side + (side % 2 == 0), min(height, width)
    return min(side, most - (most % 2 == 0))


def _pattern(side: int) -> np.ndarray:
    """One hill above one valley, float32 [side, side] of norm 1."""
    halves = _hill(side // 2, side), -_hill(side - side // 2, side)
    return _unit(np.concatenate(halves)[None, ..., None])[0, ..., 0].astype(np.float32)


def _hill(height: int, width: int) -> np.ndarray:
    """Σ_k 1/k² over the nested squares around the center that contain a pixel, at norm 1."""
    rows, columns = (np.abs(np.arange(size) - size // 2) for size in (height, width))
    ring = np.maximum(rows[:, None], columns)
    weights = 1 / np.square(np.arange(1.0, max(height, width) // 2 + 2))
    hill = np.cumsum(weights[::-1])[::-1][ring]
    return _unit(hill[None, ..., None])[0, ..., 0]


def _unit(windows: np.ndarray) -> np.ndarray:
    """Scale each channel of each window to norm 1; zeros stay zero."""
    length = np.sqrt(np.square(windows).sum(axis=(1, 2), keepdims=True))
    return np.divide(windows, length, out=np.zeros_like(windows), where=length > 0)


def _window(corners: np.ndarray, side: int) -> tuple[np.ndarray, ...]:
    """Index of the windows: images[index] is [n, side, side, channels]."""
    rows, columns = corners[:, :1] + np.arange(side), corners[:, 1:] + np.arange(side)
    return np.arange(len(corners))[:, None, None], rows[:, :, None], columns[:, None, :]


def _scaled(images: np.ndarray, delta: np.ndarray, epsilon: float) -> np.ndarray:
    """x + δ with δ scaled to norm ε, clipped to [0, 1], which can only shorten δ."""
    length = np.sqrt(np.square(delta).sum(axis=(1, 2, 3), keepdims=True))
    scale = np.divide(epsilon, length, out=np.zeros_like(length), where=length > 0)
    return np.float32(np.clip(images + scale * delta, 0, 1))


_PROPOSALS = {"linf": (_stripes, _paint), "l2": (_bumps, _transfer)}


@component
class Square(Attack):
    """Square attack: keeps random changes of square windows that raise the loss.

    The loss is the margin, or log p_t for targets. Windows cover a share p of the image, which is
    halved nine times during the attack. Windows and signs are drawn for each image separately.

    Source: Andriushchenko et al. 2020; the settings are AutoAttack's.

    Args:
        epsilon: ε, in units of pixel values in [0, 1].
        norm_ball: "linf" or "l2".
        queries: Largest number of queries for each image.
        p_init: Share of the image in the first windows.
        rescale_schedule: Whether to rescale the schedule of p, made for 10,000 queries, to
            `queries`; otherwise, fewer queries end with larger windows.

    Example:
        >>> Square(epsilon="8/255").needs_gradients
        False
    """

    name: ClassVar[str] = "square"
    needs_gradients: ClassVar[bool] = False

    epsilon: Annotated[FloatOrFraction, validation.real(0)] = field(kw_only=False)
    norm_ball: Literal["linf", "l2"] = "linf"
    queries: Annotated[int, validation.whole(1)] = 5000
    p_init: Annotated[float, validation.real(0, 1)] = 0.8
    rescale_schedule: pydantic.StrictBool = False

    @property
    @override
    def neighborhood(self) -> LpBall:
        return BALLS[self.norm_ball](epsilon=self.epsilon)

    def share(self, step: int) -> float:
        """Share p of the image in the windows of a proposal, counted from 0.

        Example:
            >>> [Square(epsilon=0.3).share(step) for step in (0, 10, 11, 4999)]
            [0.8, 0.8, 0.4, 0.00625]
        """
        if self.rescale_schedule:
            step = step * _REFERENCE_QUERIES // self.queries
        return self.p_init / 2 ** int(np.searchsorted(_HALVED_AFTER, step))

    @override
    def search(
        self, model: QueryModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        start, propose = _PROPOSALS[self.norm_ball]
        objective = margin if criterion.targets is None else cross_entropy
        draws = _Draws(seed, len(images))
        worst = start(images, self.epsilon, draws)
        classes, highest = model.predictions(worst, criterion, objective)
        success = criterion.is_adversarial(classes)
        for step in model.progress.each(range(self.queries - 1)):
            active = np.flatnonzero(~success)
            if not len(active):
                break
            draws.active = active
            tried = propose(images[active], worst[active], self.epsilon, self.share(step), draws)
            classes, loss = model.predictions(tried, criterion[active], objective)
            adversarial = criterion[active].is_adversarial(classes)
            better = adversarial | (loss > highest[active])
            worst[active[better]], highest[active[better]] = tried[better], loss[better]
            success[active] = adversarial
        return AttackResult(worst, worst - images, success)
