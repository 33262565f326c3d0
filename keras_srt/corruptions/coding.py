"""Loss by coding: JPEG compression, few bits, low resolution."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def jpeg_compression(image: np.ndarray, quality: int, random: np.random.Generator) -> np.ndarray:
    """Encode as JPEG with a quality from 1 to 95, and decode."""
    file = io.BytesIO()
    _to_pillow(image).save(file, "JPEG", quality=quality)
    with Image.open(file) as decoded:
        return _to_array(decoded, image.shape)


def pixelate(image: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """Shrink each side to a share by area averages, and enlarge again."""
    height, width = image.shape[:2]
    picture = _to_pillow(image)
    small = picture.resize((int(width * share), int(height * share)), Image.Resampling.BOX)
    return _to_array(small.resize((width, height), Image.Resampling.BOX), image.shape)


def bit_depth(image: np.ndarray, bits: int, random: np.random.Generator) -> np.ndarray:
    """Round to 2^bits evenly spaced values."""
    steps = 2**bits - 1
    return np.round(image * steps) / steps


def _to_pillow(image: np.ndarray) -> Image.Image:
    values = np.uint8(np.round(255 * image))
    return Image.fromarray(values[..., 0] if image.shape[2] == 1 else values)


def _to_array(picture: Image.Image, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(picture).reshape(shape) / 255.0
