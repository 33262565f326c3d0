"""Noise of sensors."""

from __future__ import annotations

import numpy as np


def gaussian_noise(image: np.ndarray, sigma: float, random: np.random.Generator) -> np.ndarray:
    """Add normally distributed noise."""
    return image + random.normal(0.0, sigma, image.shape)


def shot_noise(image: np.ndarray, photons: float, random: np.random.Generator) -> np.ndarray:
    """Draw each value from a Poisson distribution; a value of 1 is `photons` on average."""
    return random.poisson(image * photons) / photons


def impulse_noise(image: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """Set a share of the values to 0 or 1, each with probability 1/2 (salt and pepper)."""
    draws = random.random(image.shape)
    return np.where(draws < share / 2, 0.0, np.where(draws < share, 1.0, image))
