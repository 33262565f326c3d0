"""Square attack: random search with windows that shrink; it uses the model's answers alone."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, ClassVar, Literal

import numpy as np
import pydantic

from keras_srt.attacks.apgd import BALLS
from keras_srt.attacks.attack_losses import cross_entropy, margin
from keras_srt.attacks.base import Attack, AttackResult
from keras_srt.attacks.criterion import Criterion
from keras_srt.attacks.target_model import TargetModel, classes_of
from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.core.validation import FloatOrFraction
from keras_srt.neighborhoods.lp import LpBall

# The share of the image in a window is halved after each of these queries, of 10,000.
_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_REFERENCE_QUERIES = 10_000


class _Draws:
    """Random numbers for each image; an image's own don't depend on which others drop out."""

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
        """Where a window of this side fits: int [active, 2], its first row and column."""
        last = (height - side + 1, width - side + 1)
        return self._generator.integers(0, last, (self._count, 2))[self.active]


def _stripes(images: np.ndarray, epsilon: float, draws: _Draws) -> np.ndarray:
    """L∞ start: every column and channel is moved by ε, up or down."""
    _, _, width, channels = images.shape
    return _clipped(images, images + np.float32(epsilon) * draws.signs(1, width, channels), epsilon)


def _paint(
    images: np.ndarray, best: np.ndarray, epsilon: float, share: float, draws: _Draws
) -> np.ndarray:
    """L∞ proposal: in a window, each channel is moved by ε, up or down."""
    _, height, width, channels = images.shape
    side = max(1, round((share * height * width) ** 0.5))
    side = min(side, height, width)
    inside = _mask(draws.corners(height, width, side), side, images.shape)
    # From anywhere in the ball, 2ε leads beyond its edge, where clipping brings it back to.
    moved = best + np.float32(2 * epsilon) * inside * draws.signs(1, 1, channels)
    return _clipped(images, moved, epsilon)


def _clipped(images: np.ndarray, moved: np.ndarray, epsilon: float) -> np.ndarray:
    epsilon = np.float32(epsilon)
    return np.clip(moved, np.maximum(images - epsilon, 0), np.minimum(images + epsilon, 1))


def _mask(corners: np.ndarray, side: int, shape: tuple[int, ...]) -> np.ndarray:
    """Which pixels lie in the windows: bool [n, height, width, 1]."""
    rows, columns = (
        (np.arange(size) >= first[:, None]) & (np.arange(size) < first[:, None] + side)
        for size, first in zip(shape[1:3], corners.T, strict=True)
    )
    return rows[:, :, None, None] & columns[:, None, :, None]


def _bumps(images: np.ndarray, epsilon: float, draws: _Draws) -> np.ndarray:
    """L2 start: 5×5 tiles, each with the pattern of `_pattern`, up or down."""
    count, height, width, channels = images.shape
    side = max(1, min(height, width) // 5)
    rows, columns = height // side, width // side
    pattern = _pattern(side)
    turned = draws.coins(rows, columns)[..., None, None]
    tiles = np.where(turned, pattern.T, pattern)[..., None]
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
    """L2 proposal: one window's pattern grows by what another's perturbation, set to 0, had."""
    _, height, width, channels = images.shape
    side = _odd_side(share, height, width)
    here, there = (draws.corners(height, width, side) for _ in range(2))
    delta = best - images
    both = _mask(here, side, images.shape) | _mask(there, side, images.shape)
    squared = np.square(delta)
    unused = np.maximum(epsilon**2 - squared.sum(axis=(1, 2, 3), keepdims=True), 0)
    available = np.sqrt((squared * both).sum(axis=(1, 2), keepdims=True) + unused / channels)
    pattern, turned = _pattern(side), draws.coins(1, 1)
    bump = np.where(turned, pattern.T, pattern)[..., None] * draws.signs(1, 1, channels)
    window, emptied = _window(here, side), _window(there, side)
    grown = _unit(bump + _unit(delta[window]))
    delta[emptied] = 0
    delta[window] = available * grown
    return _scaled(images, delta, epsilon)


def _odd_side(share: float, height: int, width: int) -> int:
    """The side of a window, odd and, if the image has them, of 3 pixels at least."""
    side = max(3, round((share * height * width) ** 0.5))
    side, most = side + (side % 2 == 0), min(height, width)
    return min(side, most - (most % 2 == 0))


def _pattern(side: int) -> np.ndarray:
    """One hill over one valley, each highest in its middle: float32 [side, side], length 1."""
    halves = _hill(side // 2, side), -_hill(side - side // 2, side)
    return _unit(np.concatenate(halves)[None, ..., None])[0, ..., 0].astype(np.float32)


def _hill(height: int, width: int) -> np.ndarray:
    """Nested squares around the middle: Σ_k 1/k² over those that hold a pixel, at length 1."""
    rows, columns = (np.abs(np.arange(size) - size // 2) for size in (height, width))
    ring = np.maximum(rows[:, None], columns)
    weights = 1 / np.square(np.arange(1.0, max(height, width) // 2 + 2))
    hill = np.cumsum(weights[::-1])[::-1][ring]
    return _unit(hill[None, ..., None])[0, ..., 0]


def _unit(windows: np.ndarray) -> np.ndarray:
    """Each channel of each window at length 1; 0 where it vanishes."""
    length = np.sqrt(np.square(windows).sum(axis=(1, 2), keepdims=True))
    return np.divide(windows, length, out=np.zeros_like(windows), where=length > 0)


def _window(corners: np.ndarray, side: int) -> tuple[np.ndarray, ...]:
    """The index of a window of each image: images[index] is [n, side, side, channels]."""
    rows, columns = corners[:, :1] + np.arange(side), corners[:, 1:] + np.arange(side)
    return np.arange(len(corners))[:, None, None], rows[:, :, None], columns[:, None, :]


def _scaled(images: np.ndarray, delta: np.ndarray, epsilon: float) -> np.ndarray:
    """x + δ with δ at length ε, clipped to [0, 1], which only shortens it."""
    length = np.sqrt(np.square(delta).sum(axis=(1, 2, 3), keepdims=True))
    scale = np.divide(epsilon, length, out=np.zeros_like(length), where=length > 0)
    return np.float32(np.clip(images + scale * delta, 0, 1))


_MOVES = {"linf": (_stripes, _paint), "l2": (_bumps, _transfer)}


@component
class Square(Attack):
    """Square attack: a random change of a square window is kept where it raises the loss.

    The loss is the margin, or log p_t for targets. Windows cover a share p of the image,
    which is halved nine times on the way. Each image has windows and signs of its own.
    Source: Andriushchenko et al. 2020; the settings are AutoAttack's.

    Args:
        epsilon: ε, in units of pixel values in [0, 1].
        norm_ball: "linf" or "l2".
        queries: how often the model is asked about an image at most.
        p_init: the share of the image in the first windows.
        rescale_schedule: whether the shares fall as they would over 10,000 queries in any
            number of them; if not, fewer queries end with larger windows.

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
    def neighborhood(self) -> LpBall:
        """The ball of the norm."""
        return BALLS[self.norm_ball](epsilon=self.epsilon)

    def share(self, step: int) -> float:
        """p at a proposal, counted from 0.

        Example:
            >>> [Square(epsilon=0.3).share(step) for step in (0, 10, 11, 4999)]
            [0.8, 0.8, 0.4, 0.00625]
        """
        if self.rescale_schedule:
            step = step * _REFERENCE_QUERIES // self.queries
        return self.p_init / 2 ** int(np.searchsorted(_HALVED_AFTER, step))

    def run(
        self, model: TargetModel, images: np.ndarray, criterion: Criterion, seed: tf.Tensor
    ) -> AttackResult:
        """See `Attack.run`."""
        start, propose = _MOVES[self.norm_ball]
        draws = _Draws(seed, len(images))
        found = start(images, self.epsilon, draws)
        highest, fooled = _ask(model, found, criterion)
        for step in range(self.queries - 1):
            active = np.flatnonzero(~fooled)
            if not len(active):
                break
            draws.active = active
            tried = propose(images[active], found[active], self.epsilon, self.share(step), draws)
            loss, reached = _ask(model, tried, criterion[active])
            better = reached | (loss > highest[active])
            found[active[better]], highest[active[better]] = tried[better], loss[better]
            fooled[active] = reached
        return AttackResult(found, found - images, fooled)


def _ask(
    model: TargetModel, images: np.ndarray, criterion: Criterion
) -> tuple[np.ndarray, np.ndarray]:
    """The loss to raise, and whether the criterion is reached."""
    logits = model.logits(images)
    loss = margin if criterion.targets is None else cross_entropy
    targets = None if criterion.targets is None else tf.constant(criterion.targets, tf.int32)
    raised = loss(tf.constant(logits), tf.constant(criterion.labels, tf.int32), targets)
    return raised.numpy(), criterion.is_adversarial(classes_of(logits))
