"""Image decoding with NumPy and Pillow only, shared by training, servers and devices."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError

# Limits for one image. The pixel limit is checked before the pixels are decoded.
MAX_BYTES = 16 * 2**20
MAX_PIXELS = 2**24

# Rec. 601 luma, as in JPEG and Pillow's mode "L".
_LUMA = np.float32([0.299, 0.587, 0.114])
_CHANNELS = (1, 3)
# PNG: samples per pixel by color type; (first column, first row, column step, row step) of the
# passes of an image that is not interlaced, and of an interlaced one (Adam7); the end chunk.
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ONE_PASS = ((0, 0, 1, 1),)
_ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
_CHUNK = 2**20
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
# Exceptions that Pillow raises for damaged files, according to its tests.
_DAMAGE_ERRORS = (OSError, SyntaxError, ValueError, struct.error, zlib.error, EOFError, IndexError)
_FORMATS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"BM": "BMP",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
}
# Formats that servers and devices accept; training accepts all of the above.
SERVING_FORMATS = ("PNG", "JPEG")

# Suffixes of image files. They include unsupported formats, so that such an image is reported as
# unreadable instead of being ignored.
IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif"),
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jp2", ".tif", ".tiff", ".webp"),
)


class BadImage(ValueError):
    """An unreadable image; the message says why, without naming the file."""


def decode_image(
    data: bytes,
    shape: Sequence[int],
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Decode a PNG or JPEG to the input shape of a model.

    The image is stretched to the size, bilinear with antialiasing. Transparency and EXIF
    orientation are ignored, 16-bit values keep the upper 8 bits, and color becomes gray by
    Rec. 601. An exported SavedModel decodes `image_bytes` in the same way.

    Args:
        data: An encoded image.
        shape: The model's height, width and channels (1 or 3).
        max_bytes: The maximum length of `data`.
        max_pixels: The maximum number of pixels, checked before decoding.

    Returns:
        float32 [height, width, channels] in [0, 1].

    Raises:
        BadImage: The image is neither PNG nor JPEG, too large, CMYK, truncated or damaged.
        ValueError: The number of channels is not supported.

    Example:
        >>> decode_image(b"GIF89a", (28, 28, 1))
        Traceback (most recent call last):
        ...
        keras_srt.core.images.BadImage: is neither PNG nor JPEG (it begins with b'GIF89a')
    """
    height, width, channels = shape
    if channels not in _CHANNELS:
        raise ValueError(f"shape: got {channels} channels; allowed: {_CHANNELS}")
    with open_image(data, SERVING_FORMATS, max_bytes, max_pixels) as image:
        bands = [np.asarray(band) for band in _resized(_as_rgb(image), height, width)]
        if image.format == "PNG":
            check_png_rows(data)
    colors = np.clip(np.stack(bands, axis=-1) / np.float32(255.0), 0.0, 1.0)
    return colors if channels == 3 else np.clip(colors @ _LUMA[:, None], 0.0, 1.0)


@contextmanager
def open_image(
    data: bytes, formats: Sequence[str], max_bytes: int, max_pixels: int
) -> Iterator[Image.Image]:
    """Open an image; Pillow's exceptions inside the block are translated to `BadImage`.

    Args:
        data: An encoded image.
        formats: The accepted formats, from PNG, JPEG, BMP and GIF.
        max_bytes: The maximum length of `data`.
        max_pixels: The maximum number of pixels, checked before decoding.

    Yields:
        The image; only its header is decoded.

    Raises:
        BadImage: The image is in another format, too large, truncated or damaged.
    """
    if len(data) > max_bytes:
        raise BadImage(f"has {len(data):,} bytes; allowed: at most {max_bytes:,}")
    if not data:
        raise BadImage("is empty")
    name = next((name for magic, name in _FORMATS.items() if data.startswith(magic)), None)
    if name is None or name not in formats:
        raise BadImage(f"is neither {' nor '.join(formats)} (it begins with {data[:6]!r})")
    if name == "PNG" and _PNG_END not in data:  # Pillow does not check the end chunk
        raise BadImage("is a truncated PNG (its end is missing)")
    try:
        with warnings.catch_warnings():
            # `max_pixels` replaces Pillow's limit.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=[name]) as image:
                if image.width * image.height > max_pixels:
                    raise BadImage(
                        f"has {image.width:,} x {image.height:,} pixels; allowed: at most "
                        f"{max_pixels:,}"
                    )
                yield image
    except Image.DecompressionBombError as error:
        raise BadImage(f"has too many pixels ({error})") from error
    except UnidentifiedImageError as error:  # its message only names a Python object
        raise BadImage(f"is a damaged {name} (its header can't be read)") from error
    except BadImage:
        raise
    except _DAMAGE_ERRORS as error:
        raise BadImage(f"is a damaged {name} ({error})") from error


def _as_rgb(image: Image.Image) -> Image.Image:
    image = to_8_bit(image)
    # RGBA is used without conversion: a copy of a large image takes 64 MB.
    return image if image.mode in ("RGB", "RGBA") else image.convert("RGB")


def to_8_bit(image: Image.Image) -> Image.Image:
    """Reduce a 16-bit image to the upper 8 bits; return other images unchanged.

    Raises:
        BadImage: The image is CMYK, whose colors depend on the printer.
    """
    if image.mode == "CMYK":
        raise BadImage("is a CMYK image; allowed: gray and RGB")
    if image.mode.startswith("I"):  # 16 bits
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image


def _resized(image: Image.Image, height: int, width: int) -> Iterator[Image.Image]:
    """Yield the resized bands as float images, which are not rounded."""
    for index in range(3):
        # A single expression, so that only one full-size float band exists at a time.
        yield (
            image.getchannel(index).convert("F").resize((width, height), Image.Resampling.BILINEAR)
        )


def check_png_rows(data: bytes) -> None:
    """Check that a PNG contains all of its rows; Pillow fills missing rows with black.

    Raises:
        BadImage: Rows are missing.
    """
    width, height, depth, color, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    missing = 0
    for x, y, dx, dy in _ADAM7 if interlaced else _ONE_PASS:
        columns, rows = -(-(width - x) // dx), -(-(height - y) // dy)
        if columns > 0 and rows > 0:
            # Each row is a filter byte and the pixels.
            missing += rows * (1 + -(-columns * depth * _SAMPLES[color] // 8))
    inflate = zlib.decompressobj()
    for chunk in _pixel_chunks(data):
        # Decompress in chunks, and no more than the size in the header, which was checked.
        while chunk and missing > 0:
            missing -= len(inflate.decompress(chunk, _CHUNK))
            chunk = inflate.unconsumed_tail
    if missing > 0:
        raise BadImage("is a damaged PNG (its last rows are missing)")


def _pixel_chunks(data: bytes) -> Iterator[bytes]:
    offset = 8
    while offset + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, offset)
        if kind == b"IDAT":
            yield data[offset + 8 : offset + 8 + length]
        offset += 12 + length
