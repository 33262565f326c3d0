"""A corruption of images at five severities."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

SEVERITIES = (1, 2, 3, 4, 5)
# Up to this side, CIFAR-10-C's strengths are used, else ImageNet-C's.
_LARGEST_SMALL_SIDE = 64  # pixels

# image float64 [height, width, channels] in [0, 1], strength, random numbers -> image
Function = Callable[[np.ndarray, Any, np.random.Generator], np.ndarray]


class Corruption(NamedTuple):
    """A corruption with the strength of each severity.

    Attributes:
        name: The name; ImageNet-C's if it is the same corruption.
        function: Corrupts an image, float64 [height, width, channels] in [0, 1]. Its result may
            exceed that range and is clipped.
        small: Strengths at severities 1 to 5 for images with a side of at most 64 pixels.
        large: Strengths for larger images.
        color_only: Whether it leaves gray images unchanged.
    """

    name: str
    function: Function
    small: tuple[Any, ...]
    large: tuple[Any, ...]
    color_only: bool = False

    def strength(self, severity: int, side: int) -> Any:
        """Return the strength at a severity.

        Args:
            severity: 1 to 5.
            side: The shorter side of the images in pixels.
        """
        if severity not in SEVERITIES:
            raise ValueError(f"severity: got {severity}; allowed: 1 to 5")
        return (self.small if side <= _LARGEST_SMALL_SIDE else self.large)[severity - 1]

    def apply(
        self, images: np.ndarray, severity: int, *, seed: int = 0, first: int = 0
    ) -> np.ndarray:
        """Corrupt images.

        Random numbers depend on the seed, the name and the number of the image, so that the result
        doesn't depend on how images are divided into batches, and that severities differ in
        strength alone.

        Args:
            images: uint8 [n, height, width, channels].
            severity: 1 to 5.
            seed: Seed of the random numbers.
            first: Number of the first image in its dataset.

        Returns:
            Corrupted images of the same shape, uint8.

        Raises:
            ValueError: The severity or the type of the images isn't allowed.

        Example:
            >>> from keras_srt.corruptions import CORRUPTIONS
            >>> CORRUPTIONS["bit_depth"].apply(np.uint8([[[[100], [200]]]]), 5).ravel()
            array([  0, 255], dtype=uint8)
        """
        if images.dtype != np.uint8 or images.ndim != 4:
            raise ValueError(
                f"images: got {images.dtype} {list(images.shape)}; allowed: uint8 [n, height, "
                "width, channels]"
            )
        strength = self.strength(severity, min(images.shape[1:3]))
        corrupted = np.empty_like(images)
        for number, image in enumerate(images):
            key = [seed, zlib.crc32(self.name.encode()), first + number]
            found = self.function(image / 255.0, strength, np.random.default_rng(key))
            corrupted[number] = np.round(255 * np.clip(found, 0, 1))
        return corrupted
