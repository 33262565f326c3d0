"""Decoding of photos in any common format to uint8 images of one size."""

from __future__ import annotations

import dataclasses
import stat
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from keras_srt.core.images import BadImage, open_image, to_8_bit

# Limits for training; cameras make larger files than servers accept.
MAX_BYTES = 128 * 2**20
MAX_PIXELS = 2**27

Resize = Literal["stretch", "crop", "fit"]
Color = tuple[int, int, int]

_ORIENTATION = 0x0112  # the EXIF tag
_ROTATED = range(2, 9)  # its values that demand a rotation or flip
_TURNED = range(5, 9)  # those that exchange width and height
_BLACK = (0, 0, 0)
_MAX_16_BIT = 2**16 - 1


@dataclasses.dataclass(frozen=True)
class PhotoDecoder:
    """Decodes photos to the input size of a model.

    Attributes:
        size: Height and width in pixels.
        channels: 1 (gray, Rec. 601) or 3.
        resize: "stretch" to the size, as servers and devices do; "crop" the center, scaled to
            cover the size; "fit" the whole photo, with margins. Bilinear with antialiasing.
        background: The color behind transparent pixels and in margins, 0 to 255; None ignores
            transparency, as servers and devices do, and makes margins black.

    Example:
        >>> import io
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (40, 20), (255, 0, 0)).save(file, "BMP")
        >>> decoder = PhotoDecoder(size=(8, 8), channels=3, resize="fit")
        >>> decoder.decode(file.getvalue())[:, 4, 0]
        array([  0,   0, 255, 255, 255, 255,   0,   0], dtype=uint8)
    """

    size: tuple[int, int]
    channels: int
    resize: Resize = "stretch"
    background: Color | None = None

    def read(self, path: Path) -> np.ndarray:
        """Read and decode a file; see `decode`.

        Raises:
            BadImage: The file is not a readable photo.
            OSError: The file cannot be read.
        """
        return self.decode(read_bytes(path))

    def decode(self, data: bytes) -> np.ndarray:
        """Decode a photo in one of `keras_srt.core.images.FORMATS`.

        Args:
            data: An encoded photo; EXIF rotation is applied, and 16-bit values keep the upper 8.

        Returns:
            uint8 [height, width, channels].

        Raises:
            BadImage: The data is in another format, too large, truncated or damaged.
        """
        height, width = self.size
        with open_image(data, MAX_BYTES, MAX_PIXELS) as image:
            # Decode a large JPEG at reduced scale, still at least twice the target size.
            wanted = (2 * width, 2 * height)
            image.draft(image.mode, wanted[::-1] if _orientation(image) in _TURNED else wanted)
            colors = to_upright_rgb(image, self.background)
        return self._sized(colors)

    def convert(self, image: Image.Image) -> np.ndarray:
        """Convert an image of Pillow as `decode` does.

        Args:
            image: An image with values of 8 or 16 bits.

        Returns:
            uint8 [height, width, channels].

        Raises:
            BadImage: The image has float values, or more than 16 bits.
        """
        if image.mode == "F" or (image.mode == "I" and np.max(image) > _MAX_16_BIT):
            raise BadImage("has float values or more than 16 bits")
        return self._sized(to_upright_rgb(image, self.background))

    def _sized(self, image: Image.Image) -> np.ndarray:
        resized = self._resized(image)
        if self.channels == 1:
            return np.asarray(resized.convert("L"))[..., None]
        return np.asarray(resized)

    def _resized(self, image: Image.Image) -> Image.Image:
        size = self.size[::-1]
        bilinear = Image.Resampling.BILINEAR
        if self.resize == "crop":
            return ImageOps.fit(image, size, bilinear)
        if self.resize == "fit":
            return ImageOps.pad(image, size, bilinear, color=self.background or _BLACK)
        return image.resize(size, bilinear)


def to_upright_rgb(image: Image.Image, background: Color | None = None) -> Image.Image:
    """Convert a photo to RGB, rotated as EXIF says, over a background color.

    Args:
        image: An image from `keras_srt.core.images.open_image`.
        background: The color behind transparent pixels; None ignores transparency.

    Returns:
        An image in mode RGB.

    Raises:
        Exception: The image is damaged; `open_image` translates Pillow's exceptions.
    """
    image.load()
    if _orientation(image) in _ROTATED:
        image = ImageOps.exif_transpose(image)
    image = to_8_bit(image)
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    # Convert through RGBA: otherwise Pillow drops the transparency of a palette with a warning.
    layer = image.convert("RGBA")
    if background is not None:
        layer = Image.alpha_composite(Image.new("RGBA", layer.size, (*background, 255)), layer)
    return layer.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 is upright. Damaged EXIF data is ignored."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's warnings do not name the file
            found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow's EXIF parser raises many types
        return 1
    return found if found in _ROTATED else 1


def read_bytes(path: Path) -> bytes:
    """Read a file that may be a photo.

    Raises:
        BadImage: The file is too large, or not a regular file.
        OSError: The file cannot be read.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):  # reading a pipe blocks, and a device may never end
        raise BadImage("is not a regular file")
    if found.st_size > MAX_BYTES:
        raise BadImage(f"has {found.st_size:,} bytes; allowed: at most {MAX_BYTES:,}")
    return path.read_bytes()


def read_error_reason(error: BadImage | OSError) -> str:
    """Return why a file is unreadable, without its path."""
    return str(error.strerror or error) if isinstance(error, OSError) else str(error)
