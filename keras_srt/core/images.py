"""Encoded images -> model inputs, with NumPy and Pillow alone: servers and devices share it."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError

# Bytes and pixels that one image may have; a header is cheap to read, its pixels are not.
MAX_BYTES = 16 * 2**20
MAX_PIXELS = 2**24

# Rec. 601, what JPEG's luma and Pillow's "L" are made of.
_LUMA = np.float32([0.299, 0.587, 0.114])
_CHANNELS = (1, 3)
# Of a PNG: values of a pixel by the color type; the first column and row, and the steps, of the
# passes in which an interlaced one comes (Adam7); and its end.
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_AT_ONCE = ((0, 0, 1, 1),)
_ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
_PIECE = 2**20
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
# What Pillow raises on damaged files, by its tests: most formats' own errors are these.
_DAMAGE = (OSError, SyntaxError, ValueError, struct.error, zlib.error, EOFError, IndexError)
_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"BM": "BMP",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
}
# What servers and devices take; training takes all of the above.
SERVED = ("PNG", "JPEG")

# Names that stand for images in a folder. Formats that can't be read are among them, so that
# such an image fails by name and is not passed over in silence.
IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif"),
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jp2", ".tif", ".tiff", ".webp"),
)


class BadImage(ValueError):
    """An image that can't be read; the text says why, for the person who sent it."""


def decode_image(
    data: bytes,
    shape: Sequence[int],
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Decodes a PNG or JPEG to the size and the channels that a model takes.

    The image is stretched to the size, bilinear with antialiasing. Transparency and EXIF
    orientation are ignored, of 16 bits the upper 8 count, color becomes gray by Rec. 601:
    an exported SavedModel does the same with `image_bytes`.

    Args:
        data: an encoded image.
        shape: (height, width, channels) of the model; 1 or 3 channels.
        max_bytes: refuse a longer one.
        max_pixels: refuse one whose header promises more, before decoding it.

    Returns:
        float32 [height, width, channels] in [0, 1].

    Raises:
        BadImage: it is neither PNG nor JPEG, too large, CMYK, truncated or damaged.
        ValueError: a model with another number of channels.

    Example:
        >>> decode_image(b"GIF89a", (28, 28, 1))
        Traceback (most recent call last):
        ...
        keras_srt.core.images.BadImage: is neither PNG nor JPEG (it begins with b'GIF89a')
    """
    height, width, channels = shape
    if channels not in _CHANNELS:
        raise ValueError(f"shape: got {channels} channels; allowed: {_CHANNELS}")
    with open_image(data, SERVED, max_bytes, max_pixels) as image:
        bands = [np.asarray(band) for band in _resized(_as_rgb(image), height, width)]
        if image.format == "PNG":
            check_png_rows(data)
    colors = np.clip(np.stack(bands, axis=-1) / np.float32(255.0), 0.0, 1.0)
    return colors if channels == 3 else np.clip(colors @ _LUMA[:, None], 0.0, 1.0)


@contextmanager
def open_image(
    data: bytes, kinds: Sequence[str], max_bytes: int, max_pixels: int
) -> Iterator[Image.Image]:
    """The image with its header read; faults that show later in the block are named too.

    Args:
        data: an encoded image.
        kinds: formats to take, some of PNG, JPEG, BMP, GIF.
        max_bytes: refuse a longer one.
        max_pixels: refuse one whose header promises more, before decoding it.

    Yields:
        The image, not decoded yet.

    Raises:
        BadImage: it is of another format, too large, truncated or damaged.
    """
    if len(data) > max_bytes:
        raise BadImage(f"has {len(data):,} bytes; allowed: at most {max_bytes:,}")
    if not data:
        raise BadImage("is empty")
    kind = next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)
    if kind is None or kind not in kinds:
        raise BadImage(f"is neither {' nor '.join(kinds)} (it begins with {data[:6]!r})")
    if kind == "PNG" and _PNG_END not in data:  # Pillow is content with the pixels
        raise BadImage("is a truncated PNG (its end is missing)")
    try:
        with warnings.catch_warnings():
            # The limit on pixels is ours, and checked before anything is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=[kind]) as image:
                if image.width * image.height > max_pixels:
                    raise BadImage(
                        f"has {image.width:,} x {image.height:,} pixels; allowed: at most "
                        f"{max_pixels:,}"
                    )
                yield image
    except Image.DecompressionBombError as error:
        raise BadImage(f"promises too many pixels ({error})") from error
    except UnidentifiedImageError as error:  # its text names an object in memory
        raise BadImage(f"is a damaged {kind} (its header can't be read)") from error
    except BadImage:
        raise
    except _DAMAGE as error:
        raise BadImage(f"is a damaged {kind} ({error})") from error


def _as_rgb(image: Image.Image) -> Image.Image:
    image = to_8_bit(image)
    # Either holds the bands as they are; a copy of a large image costs 64 MB.
    return image if image.mode in ("RGB", "RGBA") else image.convert("RGB")


def to_8_bit(image: Image.Image) -> Image.Image:
    """The image with 8 bits for each band, the upper ones of 16.

    Raises:
        BadImage: it is CMYK, which means other colors with each printer.
    """
    if image.mode == "CMYK":
        raise BadImage("is a CMYK image; allowed: gray and RGB")
    if image.mode.startswith("I"):  # 16 bits
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image


def _resized(image: Image.Image, height: int, width: int) -> Iterator[Image.Image]:
    """The bands, each as float before it is resized, so that nothing is rounded."""
    for index in range(3):
        # In one expression, so that no two float bands are held at a time.
        yield (
            image.getchannel(index).convert("F").resize((width, height), Image.Resampling.BILINEAR)
        )


def check_png_rows(data: bytes) -> None:
    """Refuses a PNG whose pixels end before its last row, which Pillow takes as black.

    Raises:
        BadImage: it is one.
    """
    width, height, depth, color, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    missing = 0
    for x, y, dx, dy in _ADAM7 if interlaced else _AT_ONCE:
        columns, rows = -(-(width - x) // dx), -(-(height - y) // dy)
        if columns > 0 and rows > 0:
            # A byte for the filter, then the pixels.
            missing += rows * (1 + -(-columns * depth * _SAMPLES[color] // 8))
    inflate = zlib.decompressobj()
    for chunk in _pixel_chunks(data):
        # In pieces, and no more than the header promises: it was checked, the rest was not.
        while chunk and missing > 0:
            missing -= len(inflate.decompress(chunk, _PIECE))
            chunk = inflate.unconsumed_tail
    if missing > 0:
        raise BadImage("is a damaged PNG (its last rows are missing)")


def _pixel_chunks(data: bytes) -> Iterator[bytes]:
    place = 8
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if kind == b"IDAT":
            yield data[place + 8 : place + 8 + length]
        place += 12 + length
