"""Encoded images -> model inputs, where an unreadable image spoils only itself."""

from __future__ import annotations

import asyncio
import io
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import Image

from keras_srt.core.images import BadImage, decode_image
from keras_srt.serving.http.limits import Limits

# Out of [0, 1] everywhere: the signature `image` answers `valid` = false for it.
_UNREADABLE = np.float32(-1.0)
# Pixels from which on an image is decoded apart: the largest take a second and 250 MB.
_LARGE = 2**20


class Part(NamedTuple):
    """Images of a request that go on together.

    Attributes:
        images: encoded.
        large: whether it is a single large one.
    """

    images: Sequence[bytes]
    large: bool


class Decoder:
    """Decodes images in two lanes, each one image at a time, for the memory that they take.

    Small images are decoded where they are needed. Large ones wait for each other in a lane
    of their own, in turn with those of other requests, so that they hold up nobody else.

    Args:
        limits: of bytes and pixels, and of the images of a part.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits, self._small = limits, threading.Lock()
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="large-images")

    def parts(self, images: Sequence[bytes]) -> Iterator[Part]:
        """Divides a request's images, in order: each large one alone, small ones together.

        Args:
            images: encoded.

        Yields:
            Parts of at most `max_batch` images.
        """
        waiting: list[bytes] = []
        for data in images:
            large = _pixels(data) > _LARGE
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
        """Decodes small images.

        Args:
            images: encoded.
            shape: (height, width, channels) of the model.

        Returns:
            float32 [n, height, width, channels] in [0, 1]; -1 everywhere in an image that
            can't be read.
        """
        with self._small:
            return np.stack([self._one(data, shape) for data in images])

    async def decode_large(self, data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
        """Decodes a large image when it is its turn.

        Args:
            data: encoded.
            shape: (height, width, channels) of the model.

        Returns:
            float32 [1, height, width, channels], as `decode` gives it.
        """
        async with self._turn:
            loop = asyncio.get_running_loop()
            return (await loop.run_in_executor(self._thread, self._one, data, shape))[None]

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown()

    def _one(self, data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
        limits = self._limits
        try:
            return decode_image(data, shape, limits.max_image_bytes, limits.max_pixels)
        except BadImage:
            return np.full(shape, _UNREADABLE)


def _pixels(data: bytes) -> int:
    """Pixels that the header promises; 0 if there is none, which decoding will find too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as image:
                return image.width * image.height
    # `decode_image` names the fault; here it only means that there is nothing to wait for.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return 0
