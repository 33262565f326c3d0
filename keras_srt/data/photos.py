"""Photos as people have them -> uint8 images of one size: formats, rotation, transparency."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from keras_srt.core.images import check_rows, eight_bits, opened

KINDS = ("PNG", "JPEG", "BMP", "GIF")
# Cameras make larger files than servers should take.
MAX_BYTES = 128 * 2**20
MAX_PIXELS = 2**27

Resize = Literal["stretch", "crop", "fit"]
Color = tuple[int, int, int]

_ORIENTATION = 0x0112
_BLACK = (0, 0, 0)


@dataclasses.dataclass(frozen=True)
class Framing:
    """How a photo becomes an image of the size that a model takes.

    Attributes:
        size: height and width in pixels.
        channels: 1 (gray, Rec. 601) or 3.
        resize: "stretch" to the size, as servers and devices do; "crop" the middle of the photo,
            scaled to cover the size; "fit" it in whole, with margins. Bilinear, antialiased.
        background: what shows through transparent pixels and fills the margins, 0 to 255;
            None ignores transparency, as servers and devices do, and has black margins.

    Example:
        >>> import io
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (40, 20), (255, 0, 0)).save(file, "BMP")
        >>> framing = Framing(size=(8, 8), channels=3, resize="fit")
        >>> framing.decode(file.getvalue())[:, 4, 0]
        array([  0,   0, 255, 255, 255, 255,   0,   0], dtype=uint8)
    """

    size: tuple[int, int]
    channels: int
    resize: Resize = "stretch"
    background: Color | None = None

    def decode(self, data: bytes) -> np.ndarray:
        """Decodes a PNG, JPEG, BMP or the first frame of a GIF.

        Args:
            data: an encoded photo; EXIF's rotation is applied, of 16 bits the upper 8 count.

        Returns:
            uint8 [height, width, channels].

        Raises:
            BadImage: it is of another format, too large, CMYK, truncated or damaged.
        """
        height, width = self.size
        with opened(data, KINDS, MAX_BYTES, MAX_PIXELS) as image:
            # A JPEG many times too large is decoded at a part of its size, still twice ours.
            image.draft(image.mode, (2 * width, 2 * height))
            colors = upright(image, self.background)
            if image.format == "PNG":
                check_rows(data)
        framed = self._framed(colors)
        if self.channels == 1:
            return np.asarray(framed.convert("L"))[..., None]
        return np.asarray(framed)

    def _framed(self, image: Image.Image) -> Image.Image:
        size = self.size[::-1]
        bilinear = Image.Resampling.BILINEAR
        if self.resize == "crop":
            return ImageOps.fit(image, size, bilinear)
        if self.resize == "fit":
            return ImageOps.pad(image, size, bilinear, color=self.background or _BLACK)
        return image.resize(size, bilinear)


def upright(image: Image.Image, background: Color | None = None) -> Image.Image:
    """An opened photo in RGB as a person sees it: turned as EXIF says, over a background.

    Args:
        image: as `keras_srt.core.images.opened` yields it.
        background: what shows through transparent pixels; None ignores transparency.

    Returns:
        An image in the mode RGB.

    Raises:
        BadImage: it is CMYK.
        OSError, …: it is damaged; `opened` names what.
    """
    image.load()
    if _is_turned(image):
        image = ImageOps.exif_transpose(image)
    image = eight_bits(image)
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    # By way of RGBA, as a palette's transparency is lost (with a warning) otherwise.
    layer = image.convert("RGBA")
    if background is not None:
        layer = Image.alpha_composite(Image.new("RGBA", layer.size, (*background, 255)), layer)
    return layer.convert("RGB")


def _is_turned(image: Image.Image) -> bool:
    """Whether EXIF asks for a turn; damaged EXIF doesn't, and spoils no photo."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's words on damaged EXIF name no file
            return image.getexif().get(_ORIENTATION, 1) in range(2, 9)
    except Exception:  # whatever Pillow's parser raises on foreign bytes
        return False
