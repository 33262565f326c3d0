"""Lost data: pixels, rows, blocks and color channels, as in a faulty transmission."""

from __future__ import annotations

import numpy as np


def lost_pixels(image: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """Set a share of the pixels to 0."""
    count = image.shape[0] * image.shape[1]
    lost = random.permutation(count) < round(share * count)
    return np.where(lost.reshape(*image.shape[:2], 1), 0.0, image)


def lost_rows(image: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """Set a share of the rows to 0."""
    lost = random.permutation(len(image)) < round(share * len(image))
    return np.where(lost[:, None, None], 0.0, image)


def lost_block(image: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """Set a rectangle with a share of the image's area and its proportions to 0."""
    height, width = (max(1, round(side * share**0.5)) for side in image.shape[:2])
    top = random.integers(image.shape[0] - height + 1)
    left = random.integers(image.shape[1] - width + 1)
    block = image.copy()
    block[top : top + height, left : left + width] = 0.0
    return block


def missing_channel(image: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """Fade one color channel to 0."""
    return _fade_channel(image, share, random, 0.0)


def stuck_channel(image: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """Fade one color channel to 1."""
    return _fade_channel(image, share, random, 1.0)


def _fade_channel(
    image: np.ndarray, share: float, random: np.random.Generator, value: float
) -> np.ndarray:
    faded = image.copy()
    channel = random.integers(image.shape[2])
    faded[..., channel] = (1 - share) * faded[..., channel] + share * value
    return faded
