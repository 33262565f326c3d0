"""Blur by defocus and by motion."""

from __future__ import annotations

import numpy as np

_LARGEST_ANGLE = 45.0  # degrees


def defocus_blur(
    image: np.ndarray, disk: tuple[float, float], random: np.random.Generator
) -> np.ndarray:
    """Convolve with a disk; `disk` is its radius and the σ that smooths its edge, in pixels."""
    return _correlate(image, _disk(*disk), "mirror")


def motion_blur(
    image: np.ndarray, trail: tuple[int, float], random: np.random.Generator
) -> np.ndarray:
    """Blur along a line at a random angle up to 45°, as ImageMagick does.

    The weight of the pixel i steps ahead, 0 ≤ i ≤ 2·radius, is proportional to exp(-i²/2σ²).

    Args:
        image: float64 [height, width, channels] in [0, 1].
        trail: Radius and σ in pixels.
        random: Draws the angle.
    """
    radius, sigma = trail
    angle = np.deg2rad(random.uniform(-_LARGEST_ANGLE, _LARGEST_ANGLE))
    return _correlate(image, _trail(radius, sigma, angle), "nearest")


def _disk(radius: float, sigma: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    reach = max(8, int(radius))
    places = np.arange(-reach, reach + 1)
    disk = np.float64(places[:, None] ** 2 + places**2 <= radius**2)
    smooth = gaussian_filter(disk, sigma, radius=1 if radius <= 8 else 2, mode="mirror")
    return smooth / smooth.sum()


def _trail(radius: int, sigma: float, angle: float) -> np.ndarray:
    reach = 2 * radius
    steps = np.arange(reach + 1)
    right, down = (np.int64(np.ceil(steps * f(angle) - 0.5)) for f in (np.cos, np.sin))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    np.add.at(kernel, (reach + down, reach + right), np.exp(-(steps**2) / (2 * sigma**2)))
    return kernel / kernel.sum()


def _correlate(image: np.ndarray, kernel: np.ndarray, mode: str) -> np.ndarray:
    from scipy.ndimage import correlate

    # Zero rows and columns cost time only.
    used = np.argwhere(kernel)
    reach = np.abs(used - len(kernel) // 2).max()
    inner = slice(len(kernel) // 2 - reach, len(kernel) // 2 + reach + 1)
    return correlate(image, kernel[inner, inner, None], mode=mode)
