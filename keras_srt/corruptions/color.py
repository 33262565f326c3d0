"""Changes of color, brightness and contrast."""

from __future__ import annotations

import numpy as np

# Luma of ITU-R BT.601.
_LUMA = np.array([0.299, 0.587, 0.114])


def gray(image: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """Blend a color image with its luma."""
    return (1 - share) * image + share * (image @ _LUMA)[..., None]


def hue(image: np.ndarray, degrees: float, random: np.random.Generator) -> np.ndarray:
    """Turn the hue by an angle in either direction."""
    hsv = _to_hsv(image)
    hsv[..., 0] = (hsv[..., 0] + random.choice([-1, 1]) * degrees / 360) % 1
    return _to_rgb(hsv)


def saturate(
    image: np.ndarray, line: tuple[float, float], random: np.random.Generator
) -> np.ndarray:
    """Replace the saturation s by a·s + b."""
    hsv = _to_hsv(image)
    hsv[..., 1] = np.clip(line[0] * hsv[..., 1] + line[1], 0, 1)
    return _to_rgb(hsv)


def brightness(image: np.ndarray, shift: float, random: np.random.Generator) -> np.ndarray:
    """Add a constant to HSV's value, which is the pixel itself in a gray image."""
    if image.shape[2] == 1:
        return image + shift
    hsv = _to_hsv(image)
    hsv[..., 2] = np.clip(hsv[..., 2] + shift, 0, 1)
    return _to_rgb(hsv)


def contrast(image: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """Scale the distances from each channel's mean."""
    mean = image.mean(axis=(0, 1))
    return mean + share * (image - mean)


def _to_hsv(image: np.ndarray) -> np.ndarray:
    from matplotlib.colors import rgb_to_hsv

    return rgb_to_hsv(image)


def _to_rgb(image: np.ndarray) -> np.ndarray:
    from matplotlib.colors import hsv_to_rgb

    return hsv_to_rgb(image)
