"""Elastic deformation."""

from __future__ import annotations

import numpy as np


def elastic_transform(
    image: np.ndarray, shares: tuple[float, float, float], random: np.random.Generator
) -> np.ndarray:
    """Move three points at random, then displace each pixel by a smooth random field.

    Args:
        image: float64 [height, width, channels] in [0, 1].
        shares: The largest displacement before smoothing, the σ of the smoothing, and the largest
            movement of the three points, as shares of the image's height.
        random: Draws the points and the field.
    """
    from scipy.ndimage import gaussian_filter

    height, width = image.shape[:2]
    size, sigma, move = (share * height for share in shares)
    rows, columns = np.indices((height, width), float)
    matrix = _affine(height, width, move, random)
    flat = np.stack([rows.ravel(), columns.ravel(), np.ones(rows.size)])
    moved = _sample(image, (matrix @ flat).reshape(2, height, width), "mirror")
    field = [
        size * gaussian_filter(random.uniform(-1, 1, (height, width)), sigma, truncate=3)
        for _ in range(2)
    ]
    return _sample(moved, np.stack([rows, columns]) + field, "reflect")


def _affine(height: int, width: int, move: float, random: np.random.Generator) -> np.ndarray:
    """Return the affine map [2, 3] from target to source places (row, column, 1)."""
    center, side = np.array([height // 2, width // 2]), min(height, width) // 3
    source = center + side * np.array([[1, 1], [-1, 1], [-1, -1]])
    target = source + random.uniform(-move, move, (3, 2))
    return np.linalg.solve(np.c_[target, np.ones(3)], source).T


def _sample(image: np.ndarray, places: np.ndarray, mode: str) -> np.ndarray:
    from scipy.ndimage import map_coordinates

    channels = [
        map_coordinates(channel, places, order=1, mode=mode) for channel in np.moveaxis(image, 2, 0)
    ]
    return np.stack(channels, axis=2)
