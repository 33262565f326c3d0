"""Decoding of encoded images to model inputs; an unreadable image affects only itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from keras_srt.core.images import BadImage, count_pixels, decode_image
from keras_srt.serving.http.limits import Limits

# Outside of [0, 1], so that the signature `image` returns `valid` = false.
_UNREADABLE = np.float32(-1.0)
# Images with more pixels are decoded separately: the largest take a second and 250 MB.
_LARGE = 2**20


class Part(NamedTuple):
    """Images of a request that are decoded together.

    Attributes:
        images: Encoded images.
        large: Whether the part is a single large image.
    """

    images: Sequence[bytes]
    large: bool


class Decoder:
    """Decodes images one at a time, to bound memory, with a separate queue for large images.

    Small images are decoded in the calling thread. Large images of all requests share one thread,
    so that they don't delay requests with small images.

    Args:
        limits: Limits on bytes, pixels, and images per part.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits, self._small = limits, threading.Lock()
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="large-images")

    def parts(self, images: Sequence[bytes]) -> Iterator[Part]:
        """Split the images of a request, in order: large images alone, small ones together.

        Args:
            images: Encoded images.

        Yields:
            Parts of at most `max_batch` images.
        """
        waiting: list[bytes] = []
        for data in images:
            large = count_pixels(data) > _LARGE
            if waiting and (large or len(waiting) == self._limits.max_batch):
                yield Part(waiting, large=False)
                waiting = []
            if large:
                yield Part([data], large=True)
            else:
                waiting.append(data)
        if waiting:
            yield Part(waiting, large=False)

    def decode(self, images: Sequence[bytes], shape: tuple[int, int, int]) -> np.ndarray:
        """Decode small images.

        Args:
            images: Encoded images.
            shape: (height, width, channels) of the model.

        Returns:
            Float32 [n, height, width, channels] in [0, 1]; an unreadable image is -1 everywhere.
        """
        with self._small:
            return np.stack([self._one(data, shape) for data in images])

    async def decode_large(self, data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
        """Decode a large image in the thread for large images.

        Args:
            data: Encoded image.
            shape: (height, width, channels) of the model.

        Returns:
            Float32 [1, height, width, channels], as in `decode`.
        """
        async with self._turn:
            loop = asyncio.get_running_loop()
            return (await loop.run_in_executor(self._thread, self._one, data, shape))[None]

    def close(self) -> None:
        """Stop the thread."""
        self._thread.shutdown()

    def _one(self, data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
        limits = self._limits
        try:
            return decode_image(data, shape, limits.max_image_bytes, limits.max_pixels)
        except BadImage:
            return np.full(shape, _UNREADABLE)
