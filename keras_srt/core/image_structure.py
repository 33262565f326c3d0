"""The structure of PNG and JPEG files.

Decoders differ in the damage that they tolerate. These checks are those of
`keras_srt.exporters.graph_decoding`, so that Pillow and an exported graph accept the same files.
"""

from __future__ import annotations

import struct
import zlib

MAX_SIDE = 65_535  # limit of JPEG; resizing a longer and thin PNG would take gigabytes

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# Color type -> samples per pixel, and allowed bits per sample.
PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
PNG_PALETTE = 3  # color type
# More chunks take too long in a graph; encoders write 8 kB or more in a chunk.
PNG_MAX_CHUNKS, _MEAN_CHUNK = 2**12, 2**12
# (first column, first row, column step, row step) of the passes of an image that is not interlaced,
# and of an interlaced one (Adam7).
_ONE_PASS = ((0, 0, 1, 1),)
_ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
_PART = 2**20

JPEG_EOI, JPEG_SOS = b"\xff\xd9", 0xDA
# Frame types that every build of libjpeg reads: baseline, extended and progressive.
JPEG_FRAMES = (0xC0, 0xC1, 0xC2)
JPEG_HEAD_BYTES = 10  # of a frame header, up to the number of components
JPEG_MAX_SEGMENTS = 1000


class BadImage(ValueError):
    """An unreadable image; the message says why, without naming the file."""


def checked_png(data: bytes) -> bytes:
    """Check the chunks of a PNG as libpng does.

    Args:
        data: A file that begins as a PNG.

    Returns:
        The PNG without chunks that affect neither pixels nor transparency nor orientation; Pillow
        refuses a file for damage in them, and libpng does not.

    Raises:
        BadImage: A chunk that affects pixels is missing, damaged, unknown or out of place.
    """
    kept, before, offset = [PNG_MAGIC], b"", len(PNG_MAGIC)
    found: dict[bytes, int] = {}
    for _ in range(max(PNG_MAX_CHUNKS, len(data) // _MEAN_CHUNK)):
        if before == b"IEND":
            break
        kind, end = _chunk(data, offset)
        content = data[offset + 8 : end - 4]
        is_critical = not kind[0] & 0x20
        intact = zlib.crc32(content, zlib.crc32(kind)) == int.from_bytes(data[end - 4 : end], "big")
        if is_critical:
            if not intact:
                raise _damaged(f"the checksum of its {kind.decode()} is wrong")
            _check_place(kind, before, found)
            found[kind] = found.get(kind, 0) + 1
        if kind == b"IHDR":
            color = _check_header(content)
        if kind == b"PLTE" and color != PNG_PALETTE:
            is_critical = False  # only a suggestion
        elif kind == b"PLTE" and (len(content) % 3 or not 3 <= len(content) <= 768):
            raise _damaged("its palette is invalid")
        if is_critical or (intact and _is_kept(kind, content, color)):
            kept.append(data[offset:end])
        before, offset = kind, end
    if before != b"IEND":
        raise _damaged("it has too many chunks")
    if b"IDAT" not in found or (color == PNG_PALETTE and b"PLTE" not in found):
        raise _damaged("its pixels or its palette are missing")
    return b"".join(kept)


def _chunk(data: bytes, offset: int) -> tuple[bytes, int]:
    """Name and end of a chunk."""
    if offset + 12 > len(data):
        raise _damaged("its end is missing")
    length, kind = struct.unpack_from(">I4s", data, offset)
    if not kind.isalpha():
        raise _damaged("a chunk has an invalid name")
    end = offset + 12 + length
    if end > len(data):
        raise _damaged("a chunk ends beyond the file")
    return kind, end


def _check_place(kind: bytes, before: bytes, found: dict[bytes, int]) -> None:
    """Check that a critical chunk is known and may follow the ones before."""
    if kind not in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
        raise _damaged(f"it has an unknown chunk {kind.decode()}")
    is_first = not before
    repeated = kind in found and (kind != b"IDAT" or before != b"IDAT")
    if (kind == b"IHDR") != is_first or repeated or (kind == b"PLTE" and b"IDAT" in found):
        raise _damaged(f"its {kind.decode()} is out of place")


def _check_header(content: bytes) -> int:
    """Check the fields of an IHDR, without the size; return the color type."""
    if len(content) != 13:
        raise _damaged("its header can't be read")
    depth, color, compression, filtering, interlace = content[8:]
    if depth not in PNG_DEPTHS.get(color, ()) or compression or filtering or interlace > 1:
        raise _damaged("its header can't be read")
    return color


def _is_kept(kind: bytes, content: bytes, color: int) -> bool:
    lengths = {0: (2,), 2: (6,), PNG_PALETTE: range(1, 257)}.get(color, ())
    return kind == b"eXIf" or (kind == b"tRNS" and len(content) in lengths)


def check_png_rows(data: bytes) -> None:
    """Check that a PNG has all of its rows and its checksum; Pillow fills missing rows with black.

    Args:
        data: A PNG from `checked_png`.

    Raises:
        BadImage: They are missing.
    """
    width, height, depth, color, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    missing = 0
    for x, y, dx, dy in _ADAM7 if interlaced else _ONE_PASS:
        columns, rows = -(-(width - x) // dx), -(-(height - y) // dy)
        if columns > 0 and rows > 0:
            # Each row is a filter byte and the pixels.
            missing += rows * (1 + -(-columns * depth * PNG_SAMPLES[color] // 8))
    inflate, offset = zlib.decompressobj(), len(PNG_MAGIC)
    while offset < len(data):
        kind, end = _chunk(data, offset)
        part = data[offset + 8 : end - 4] if kind == b"IDAT" else b""
        # In parts, and no more than the size in the header, which was checked. Further rows are
        # ignored.
        while part and not inflate.eof and missing >= 0:
            missing -= len(inflate.decompress(part, _PART))
            part = inflate.unconsumed_tail
        offset = end
    if missing > 0 or (missing == 0 and not inflate.eof):
        raise _damaged("its last rows are missing, or their checksum")


def _damaged(reason: str) -> BadImage:
    return BadImage(f"is a damaged PNG ({reason})")


def check_jpeg(data: bytes) -> None:
    """Check the segments of a JPEG before its pixels, and its end.

    Args:
        data: A file that begins as a JPEG.

    Raises:
        BadImage: A segment is damaged; there is not one frame with 8 bits per sample; or pixels or
            the end are missing.
    """
    position, frames = 2, 0
    for _ in range(JPEG_MAX_SEGMENTS):
        head = data[position : position + JPEG_HEAD_BYTES].ljust(JPEG_HEAD_BYTES, b"\0")
        # Markers below 0xC0 don't occur before the pixels.
        if head[0] != 0xFF or head[1] < 0xC0 or head[1] == JPEG_SOS:
            break
        if head[1] == 0xFF:  # a fill byte
            position += 1
            continue
        size = head[2] * 256 + head[3]  # without the marker
        is_frame = head[1] in JPEG_FRAMES
        frames += is_frame
        if size < 2 or (is_frame and (head[4] != 8 or head[9] not in (1, 3, 4))):
            raise BadImage("is a damaged JPEG (its header can't be read)")
        position += 2 + size
    if frames != 1 or data[position : position + 2] != bytes([0xFF, JPEG_SOS]):
        raise BadImage("is a damaged JPEG (its header can't be read)")
    # Within pixels, 0xFF is followed by 0, so the end marker can't occur there by chance. Data may
    # follow the end marker: some cameras append metadata.
    if data.find(JPEG_EOI, position) < 0:
        raise BadImage("is a truncated JPEG (its end is missing)")
