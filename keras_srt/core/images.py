"""Image decoding with NumPy and Pillow only, shared by training, servers and devices."""

from __future__ import annotations

import functools
import importlib.util
import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError

from keras_srt.core.image_structure import (
    MAX_SIDE,
    BadImage,
    check_jpeg,
    check_png_rows,
    checked_png,
)

# Limits for one image. The pixel limit is checked before the pixels are decoded.
MAX_BYTES = 16 * 2**20
MAX_PIXELS = 2**24

# Rec. 601 luma, as in JPEG and Pillow's mode "L".
_LUMA = np.float32([0.299, 0.587, 0.114])
_CHANNELS = (1, 3)
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
# Exceptions that Pillow raises for damaged files, according to its tests.
_DAMAGE_ERRORS = (OSError, SyntaxError, ValueError, struct.error, zlib.error, EOFError, IndexError)
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WebP", "TIFF", "HEIC")  # HEIC with pillow-heif only
# The first bytes of a file, "." for any byte -> Pillow's name of the format.
_SIGNATURES = {
    rb"\x89PNG\r\n\x1a\n": "PNG",
    rb"\xff\xd8\xff": "JPEG",
    rb"BM": "BMP",
    rb"GIF8[79]a": "GIF",
    rb"RIFF....WEBP": "WEBP",
    rb"II[*+]\0|MM\0[*+]": "TIFF",
    rb"....ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)": "HEIF",
}
# Modes of images without a defined range or conversion to RGB.
_UNSUPPORTED_MODES = {"F": "float values", "I": "32-bit values", "LAB": "LAB colors"}

# Suffixes of image files. They include unsupported formats (AVIF, JPEG 2000), so that such an image
# is reported as unreadable instead of being ignored.
IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif"),
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jp2", ".tif", ".tiff", ".webp"),
)


def decode_image(
    data: bytes,
    shape: Sequence[int],
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Decode an image to the input shape of a model.

    The image is stretched to the size, bilinear with antialiasing. Transparency and EXIF
    orientation are ignored, 16-bit values keep the upper 8 bits, and color becomes gray by
    Rec. 601. An exported SavedModel decodes `image_bytes` in the same way, but only PNG and gray
    or RGB JPEG.

    Args:
        data: An encoded image.
        shape: The model's height, width and channels (1 or 3).
        max_bytes: The maximum length of `data`.
        max_pixels: The maximum number of pixels, checked before decoding.

    Returns:
        float32 [height, width, channels] in [0, 1].

    Raises:
        BadImage: The image is in none of `FORMATS`, too large, truncated or damaged.
        ValueError: The number of channels is not supported.

    Example:
        >>> decode_image(b"BM", (28, 28, 1))
        Traceback (most recent call last):
        ...
        keras_srt.core.image_structure.BadImage: is a damaged BMP (its header can't be read)
    """
    height, width, channels = shape
    if channels not in _CHANNELS:
        raise ValueError(f"shape: got {channels} channels; allowed: {_CHANNELS}")
    with open_image(data, max_bytes, max_pixels) as image:
        bands = [np.asarray(band) for band in _resized(_as_rgb(image), height, width)]
    colors = np.clip(np.stack(bands, axis=-1) / np.float32(255.0), 0.0, 1.0)
    return colors if channels == 3 else np.clip(colors @ _LUMA[:, None], 0.0, 1.0)


@contextmanager
def open_image(data: bytes, max_bytes: int, max_pixels: int) -> Iterator[Image.Image]:
    """Open an image; Pillow's exceptions inside the block are translated to `BadImage`.

    Args:
        data: An encoded image in one of `FORMATS`; HEIC needs the package pillow-heif.
        max_bytes: The maximum length of `data`.
        max_pixels: The maximum number of pixels, checked before decoding.

    Yields:
        The image, or the first frame of several; only its header is decoded.

    Raises:
        BadImage: The image is in another format, too large, truncated or damaged.
    """
    if len(data) > max_bytes:
        raise BadImage(f"has {len(data):,} bytes; allowed: at most {max_bytes:,}")
    if not data:
        raise BadImage("is empty")
    name = _format(data)
    _check_end(data, name)
    if name == "PNG":
        data = checked_png(data)
    elif name == "JPEG":
        check_jpeg(data)
    try:
        with warnings.catch_warnings():
            # `max_pixels` replaces Pillow's limit, and its warnings do not name the file.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=[name]) as image:
                width, height = image.size
                if width * height > max_pixels or max(width, height) > MAX_SIDE:
                    raise BadImage(
                        f"has {width:,} x {height:,} pixels; allowed: at most {max_pixels:,}, and "
                        f"{MAX_SIDE:,} in a row or column"
                    )
                _check_mode(image)
                yield image
        if name == "PNG":
            check_png_rows(data)
    except Image.DecompressionBombError as error:
        raise BadImage(f"has too many pixels ({error})") from error
    except UnidentifiedImageError as error:  # its message only names a Python object
        raise BadImage(f"is a damaged {name} (its header can't be read)") from error
    except BadImage:
        raise
    except _DAMAGE_ERRORS as error:
        raise BadImage(f"is a damaged {name} ({error})") from error


def count_pixels(data: bytes) -> int:
    """Return the number of pixels according to an image's header; 0 if it is unreadable."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=[_format(data)]) as image:
                return image.width * image.height
    except (*_DAMAGE_ERRORS, Image.DecompressionBombError):
        return 0


def _format(data: bytes) -> str:
    """Pillow's name for the format of an image, from its first bytes."""
    for signature, name in _SIGNATURES.items():
        if re.match(signature, data, re.DOTALL):
            if name == "HEIF":
                _enable_heic()
            return name
    raise BadImage(
        f"is in no supported format (it begins with {data[:6]!r}); allowed: {allowed_formats()}"
    )


def allowed_formats() -> str:
    """List the formats for error messages, with what to install to read HEIC."""
    missing = importlib.util.find_spec("pillow_heif") is None
    return ", ".join(FORMATS) + (" (with pip install pillow-heif)" if missing else "")


@functools.cache
def _enable_heic() -> None:
    """Register the plugin of Pillow for HEIC."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise BadImage("is a HEIC image; pip install pillow-heif to read it") from error
    register_heif_opener()


def _check_end(data: bytes, name: str) -> None:
    """Check the end of the formats whose truncation Pillow does not always detect."""
    if name == "PNG" and _PNG_END not in data:
        raise BadImage("is a truncated PNG (its end is missing)")
    if name == "WEBP" and 8 + int.from_bytes(data[4:8], "little") > len(data):
        raise BadImage("is a truncated WEBP (its end is missing)")


def _check_mode(image: Image.Image) -> None:
    found = _UNSUPPORTED_MODES.get(image.mode)
    # Before version 11, Pillow opens a PNG of 16 bits in mode "I".
    if found is not None and (image.mode, image.format) != ("I", "PNG"):
        raise BadImage(f"has {found}; allowed: 8 or 16 bits, in gray, RGB or CMYK")


def _as_rgb(image: Image.Image) -> Image.Image:
    image = to_8_bit(image)
    # RGBA is used without conversion: a copy of a large image takes 64 MB.
    return image if image.mode in ("RGB", "RGBA") else image.convert("RGB")


def to_8_bit(image: Image.Image) -> Image.Image:
    """Reduce a 16-bit image to the upper 8 bits; return other images unchanged."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image


def _resized(image: Image.Image, height: int, width: int) -> Iterator[Image.Image]:
    """Yield the resized bands as float images, which are not rounded."""
    for index in range(3):
        # A single expression, so that only one full-size float band exists at a time.
        yield (
            image.getchannel(index).convert("F").resize((width, height), Image.Resampling.BILINEAR)
        )
