"""Encoded images for tests of decoders: readable and unreadable ones."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

RGB = np.random.default_rng(7).integers(0, 256, (23, 31, 3), np.uint8)
# As photos are; noise would be all rounding in a JPEG.
SMOOTH = np.uint8(np.add.outer(np.arange(46) * 3, np.arange(62) * 1.5)[..., None] + [0, 15, 30])


def encode(image, kind="PNG", **options):
    """Encodes an array or a Pillow image."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(kind, data):
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def png(width, height, pixels, depth=8, color=0):
    """A PNG by hand: gray of 8 bits, with the compressed pixels as they are given."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def bomb(side):
    """A PNG of zeros, `side` x `side`: a thousandth of its pixels in bytes, made without them."""
    compressor = zlib.compressobj(1)
    rows = b"\0" * (side + 1) * 64
    parts = [compressor.compress(rows) for _ in range(side // 64)]
    return png(side, side, b"".join([*parts, compressor.flush()]))


def _pillow(mode):
    return Image.fromarray(RGB).convert(mode)


TURNED = Image.Exif()
TURNED[0x0112] = 6  # orientation: a quarter to the right

PNG, JPEG = encode(RGB), encode(SMOOTH, "JPEG")

READABLE = {
    "png": PNG,
    "png gray": encode(RGB[..., 0]),
    "png of 1 bit": encode(_pillow("1")),
    "png palette": encode(_pillow("P")),
    "png palette with transparency": encode(_pillow("P"), transparency=3),
    "png with alpha": encode(np.dstack([RGB, RGB[..., :1]])),
    "png gray with alpha": encode(_pillow("LA")),
    "png of 16 bits": encode(Image.fromarray(np.uint16(RGB[..., 0]) * 256 + 77)),
    "png and more": PNG + b"more\n",
    "png 1x1": encode(RGB[:1, :1]),
    "png of the size": encode(RGB[:12, :10]),
    "jpeg": JPEG,
    "jpeg gray": encode(SMOOTH[..., 0], "JPEG"),
    "jpeg 4:4:4": encode(SMOOTH, "JPEG", subsampling=0, quality=95),
    "jpeg progressive": encode(SMOOTH, "JPEG", progressive=True),
    "jpeg of odd sides": encode(SMOOTH[:33, :47], "JPEG"),
    "jpeg 1x1": encode(SMOOTH[:1, :1], "JPEG"),
    "jpeg turned by EXIF": encode(SMOOTH, "JPEG", exif=TURNED),
    "jpeg with an end in its comment": encode(SMOOTH, "JPEG", comment=b"\xff\xd9" * 9),
    "jpeg and more": JPEG + b"more" * 99,
}

# Formats that the graph of a SavedModel does not decode.
PILLOW_ONLY = {
    "gif": encode(SMOOTH, "GIF"),
    "bmp": encode(SMOOTH, "BMP"),
    "webp": encode(SMOOTH, "WEBP", quality=95),
    "webp without loss": encode(SMOOTH, "WEBP", lossless=True),
    "tiff": encode(SMOOTH, "TIFF"),
    "tiff lzw": encode(SMOOTH, "TIFF", compression="tiff_lzw"),
    "tiff of CMYK": encode(Image.fromarray(SMOOTH).convert("CMYK"), "TIFF"),
    "jpeg of CMYK": encode(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG", quality=95),
}

UNREADABLE = {
    "nothing": b"",
    "a byte": b"\x89",
    "text": b"not an image at all, but long enough to be one; " * 9,
    "gif in half": encode(RGB, "GIF")[:1000],
    "webp in half": encode(RGB, "WEBP")[:300],
    "bmp in half": encode(RGB, "BMP")[:1000],
    "tiff in half": encode(RGB, "TIFF")[:1000],
    "tiff of floats": encode(Image.fromarray(np.float32(RGB[..., 0])), "TIFF"),
    "tiff of 32 bits": encode(Image.fromarray(np.int32(RGB[..., 0])), "TIFF"),
    "png magic": PNG[:8],
    "png header": PNG[:33],
    "png in half": PNG[: len(PNG) // 2],
    "png without its end": PNG[:-13],
    "png of 0 pixels": png(0, 5, zlib.compress(b"")),
    "png of 60000 x 60000": png(60_000, 60_000, zlib.compress(b"\0")),
    "png of 2^31 x 2^31": png(2**31, 2**31, zlib.compress(b"\0")),
    "png with another first chunk": PNG[:12] + b"JHDR" + PNG[16:],
    "jpeg magic": JPEG[:3],
    "jpeg header": JPEG[:200],
    "jpeg in half": JPEG[: len(JPEG) // 2],
    "jpeg without its end": JPEG[:-2],
    "jpeg with an end in its comment, in half": encode(SMOOTH, "JPEG", comment=b"\xff\xd9" * 9)[
        :-50
    ],
}
