"""Odd and damaged PNG and JPEG files, made from whole ones."""

import io
import struct
import zlib

import numpy as np
from PIL import Image, PngImagePlugin

MAGIC = b"\x89PNG\r\n\x1a\n"
SIZE = 16


def _pixels(channels):
    return np.random.default_rng(channels).integers(0, 256, (SIZE, SIZE, channels), np.uint8)


def _saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _image(mode="RGB"):
    return Image.fromarray(_pixels(3)).convert(mode)


def chunk(kind, data=b"", crc=None):
    """A chunk of a PNG; `crc` replaces its checksum."""
    crc = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def ihdr(width=SIZE, height=SIZE, depth=8, color=2, compression=0, filtering=0, interlace=0):
    """The header chunk of a PNG."""
    fields = (width, height, depth, color, compression, filtering, interlace)
    return chunk(b"IHDR", struct.pack(">IIBBBBB", *fields))


def _rows(channels=3, filter_type=0):
    pixels = _pixels(channels)
    return b"".join(bytes([filter_type]) + row.tobytes() for row in pixels)


def png(*chunks):
    """A PNG of these chunks and the end chunk."""
    return MAGIC + b"".join(chunks) + chunk(b"IEND")


def _png_files():
    data = zlib.compress(_rows())
    idat, head = chunk(b"IDAT", data), ihdr()
    palette = chunk(b"PLTE", bytes(range(48)))
    indices = chunk(b"IDAT", zlib.compress(_rows(1, 0).replace(b"\xff", b"\x01")))
    small = bytearray()
    for row in _pixels(1)[..., 0] % 16:
        small += b"\0" + bytes(row)
    small = chunk(b"IDAT", zlib.compress(bytes(small)))
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "x" * 3 * 2**20, zip=True)
    files = {
        "gray": _saved(_image("L"), "PNG"),
        "rgb": png(head, idat),
        "rgba": _saved(_image("RGBA"), "PNG"),
        "palette": png(ihdr(color=3), palette, small),
        "1 bit": _saved(_image("1"), "PNG"),
        "16 bits": _saved(Image.fromarray(_pixels(1)[..., 0].astype(np.uint16) * 257), "PNG"),
        "split IDAT": png(head, chunk(b"IDAT", data[:50]), chunk(b"IDAT", data[50:])),
        "empty IDAT first": png(head, chunk(b"IDAT"), idat),
        "ancillary chunk": png(head, chunk(b"abCd", b"x"), idat),
        "text after pixels": png(head, idat, chunk(b"tEXt", b"a\0b")),
        "data after the end": png(head, idat) + b"x" * 100,
        "bad IDAT CRC": png(head, chunk(b"IDAT", data, crc=1)),
        "bad IHDR CRC": png(head[:-4] + b"\0\0\0\0", idat),
        "bad IEND CRC": MAGIC + head + idat + chunk(b"IEND", crc=1),
        "bad text CRC": png(head, chunk(b"tEXt", b"a\0b", crc=1), idat),
        "bad CRC of text after pixels": png(head, idat, chunk(b"tEXt", b"a\0b", crc=1)),
        "no Adler checksum": png(head, chunk(b"IDAT", data[:-4])),
        "half an Adler checksum": png(head, chunk(b"IDAT", data[:-2])),
        "wrong Adler checksum": png(head, chunk(b"IDAT", data[:-4] + b"abcd")),
        "two IHDR": png(head, head, idat),
        "IHDR after pixels": png(head, idat, head),
        "palette without PLTE": png(ihdr(color=3), small),
        "PLTE after pixels": png(ihdr(color=3), small, palette),
        "two PLTE": png(ihdr(color=3), palette, palette, small),
        "PLTE of 4 bytes": png(ihdr(color=3), chunk(b"PLTE", b"abcd"), small),
        "empty PLTE": png(ihdr(color=3), chunk(b"PLTE"), small),
        "PLTE in gray": png(ihdr(color=0), palette, indices),
        "PLTE in RGB": png(head, palette, idat),
        "index beyond PLTE": png(ihdr(color=3), chunk(b"PLTE", b"abcdef"), small),
        "tRNS of wrong length": png(head, chunk(b"tRNS", b"a"), idat),
        "tRNS in palette": png(ihdr(color=3), palette, chunk(b"tRNS", b"abc"), small),
        "tRNS longer than PLTE": png(ihdr(color=3), palette, chunk(b"tRNS", b"a" * 40), small),
        "unknown critical chunk": png(head, chunk(b"ABCD", b"x"), idat),
        "critical chunk after pixels": png(head, idat, chunk(b"ABCD", b"x")),
        "chunk with an invalid name": png(head, chunk(b"ab1d", b"x"), idat),
        "chunk beyond the file": MAGIC
        + head
        + idat
        + struct.pack(">I", 10**6)
        + b"tEXtx"
        + chunk(b"IEND"),
        "chunk between IDAT": png(
            head, chunk(b"IDAT", data[:50]), chunk(b"tEXt", b"a\0b"), chunk(b"IDAT", data[50:])
        ),
        "no IDAT": png(head, chunk(b"tEXt", b"a\0b" * 10)),
        "IDAT before IHDR": png(idat, head),
        "no IEND": MAGIC + head + idat,
        "half of IEND": (png(head, idat))[:-4],
        "truncated": png(head, idat)[:200],
        "pixels cut": png(head, chunk(b"IDAT", data[: len(data) // 2])),
        "rows missing": png(head, chunk(b"IDAT", zlib.compress(_rows()[:300]))),
        "rows too many": png(head, chunk(b"IDAT", zlib.compress(_rows() * 2))),
        "IDAT after the stream": png(head, idat, chunk(b"IDAT", b"xyz")),
        "bytes after the stream": png(head, chunk(b"IDAT", data + b"xyz")),
        "bad zlib header": png(head, chunk(b"IDAT", b"\0\0" + data[2:])),
        "large zlib window": png(head, chunk(b"IDAT", b"\x88\x1c" + data[2:])),
        "bad compressed data": png(head, chunk(b"IDAT", data[:30] + bytes(30) + data[60:])),
        "bad filter": png(head, chunk(b"IDAT", zlib.compress(_rows(filter_type=9)))),
        "depth 3": png(ihdr(depth=3), idat),
        "depth 4 in RGB": png(ihdr(depth=4), idat),
        "color type 5": png(ihdr(color=5), idat),
        "compression method 1": png(ihdr(compression=1), idat),
        "filter method 1": png(ihdr(filtering=1), idat),
        "interlace method 2": png(ihdr(interlace=2), idat),
        "interlaced": _interlaced(),
        "width 0": png(ihdr(width=0), idat),
        "height 0": png(ihdr(height=0), idat),
        "width 2^31": png(ihdr(width=2**31), idat),
        "too many pixels": png(ihdr(width=5000, height=5000), idat),
        "width beyond libpng's": png(ihdr(width=1_000_001, height=1), idat),
        "IHDR of 14 bytes": png(chunk(b"IHDR", ihdr()[8:21] + b"x"), idat),
        "large compressed text": _saved(_image(), "PNG", pnginfo=text),
        "large ICC profile": _saved(_image(), "PNG", icc_profile=bytes(5 * 2**20)),
        "broken ICC profile": png(head, chunk(b"iCCP", b"a\0\0bcd"), idat),
        "gAMA of 0": png(head, chunk(b"gAMA", bytes(4)), idat),
        "animated": _saved(
            _image(), "PNG", save_all=True, append_images=[_image("L").convert("RGB")]
        ),
        "damaged animation": png(head, chunk(b"acTL", b"\0"), idat),
        "only the magic number": MAGIC,
        "only the header": png(head),
    }
    return {f"PNG, {name}": data for name, data in files.items()}


def _interlaced():
    rows = b""
    for x, y, dx, dy in (
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):  # fmt: skip
        rows += b"".join(b"\0" + row.tobytes() for row in _pixels(3)[y::dy, x::dx])
    return png(ihdr(interlace=1), chunk(b"IDAT", zlib.compress(rows)))


def segment(marker, data=b""):
    """A segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", 2 + len(data)) + data


def _segments(data):
    """The segments of a JPEG before its pixels as (marker, bytes), and the rest."""
    found, offset = [], 2
    while data[offset + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, offset + 2)
        found.append((data[offset + 1], data[offset : offset + 2 + length]))
        offset += 2 + length
    return found, data[offset:]


def _without(data, marker):
    found, rest = _segments(data)
    return data[:2] + b"".join(part for kind, part in found if kind != marker) + rest


def _frame(data, offset, value):
    """Change a byte of the frame header: 4 precision, 5:7 height, 7:9 width, 9 components."""
    found, rest = _segments(data)
    changed = b""
    for kind, part in found:
        if kind in (0xC0, 0xC1, 0xC2):
            part = part[:offset] + value + part[offset + len(value) :]
        changed += part
    return data[:2] + changed + rest


def _jpeg_files():
    whole = _saved(_image(), "JPEG", quality=90)
    progressive = _saved(_image(), "JPEG", progressive=True)
    sos = whole.index(b"\xff\xda")
    middle = (sos + len(whole)) // 2
    files = {
        "gray": _saved(_image("L"), "JPEG"),
        "RGB": whole,
        "progressive": progressive,
        "CMYK": _saved(_image("CMYK"), "JPEG"),
        "restart markers": _saved(_image(), "JPEG", restart_marker_rows=1),
        "EXIF": _saved(_image(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
        "broken EXIF": _saved(_image(), "JPEG", exif=b"Exif\0\0brokenbroken"),
        "large ICC profile": _saved(_image(), "JPEG", icc_profile=bytes(2**20)),
        "large comment": whole[:2] + segment(0xFE, b"x" * 65533) * 20 + whole[2:],
        "many segments": whole[:2] + segment(0xFE, b"x") * 2000 + whole[2:],
        "data after the end": whole + b"x" * 100,
        "fill bytes before a marker": whole[:2] + b"\xff\xff\xff" + whole[2:],
        "zeros before a marker": whole[:2] + b"\0\0" + whole[2:],
        "no EOI": whole[:-2],
        "no EOI, data after": whole[:-2] + b"x" * 100,
        "pixels cut": whole[:middle],
        "pixels cut, EOI": whole[:middle] + b"\xff\xd9",
        "no pixels, EOI": whole[: sos + 14] + b"\xff\xd9",
        "pixels zeroed": whole[:middle] + bytes(20) + whole[middle + 20 :],
        "pixels all ones": whole[:middle] + b"\xff\0" * 10 + whole[middle + 20 :],
        "marker in the pixels": whole[:middle] + b"\xff\xc4" + whole[middle + 2 :],
        "EOI in the pixels": whole[:middle] + b"\xff\xd9" + whole[middle + 2 :],
        "progressive cut, EOI": progressive[: len(progressive) * 2 // 3] + b"\xff\xd9",
        "no Huffman tables": _without(whole, 0xC4),
        "no quantization tables": _without(whole, 0xDB),
        "no frame": _without(whole, 0xC0),
        "no scan": whole[:sos] + b"\xff\xd9",
        "two frames": whole[:2] + dict(_segments(whole)[0])[0xC0] + whole[2:],
        "arithmetic coding": whole.replace(b"\xff\xc0", b"\xff\xc9", 1),
        "lossless": whole.replace(b"\xff\xc0", b"\xff\xc3", 1),
        "extended": whole.replace(b"\xff\xc0", b"\xff\xc1", 1),
        "said to be progressive": whole.replace(b"\xff\xc0", b"\xff\xc2", 1),
        "12 bits": _frame(whole, 4, b"\x0c"),
        "height 0": _frame(whole, 5, b"\0\0"),
        "width 0": _frame(whole, 7, b"\0\0"),
        "too many pixels": _frame(whole, 5, b"\x20\0\x20\0"),
        "higher than its pixels": _frame(whole, 5, b"\0\x40"),
        "lower than its pixels": _frame(whole, 5, b"\0\x08"),
        "2 components": _frame(whole, 9, b"\x02"),
        "5 components": _frame(whole, 9, b"\x05"),
        "sampling factor 0": _frame(whole, 11, b"\0"),
        "unknown quantization table": _frame(whole, 12, b"\x03"),
        "segment beyond the file": whole[:2] + b"\xff\xfe\xff\xff" + whole[2:],
        "segment of 1 byte": whole[:2] + b"\xff\xfe\0\x01" + whole[2:],
        "bad Huffman table": whole.replace(
            dict(_segments(whole)[0])[0xC4][:21], b"\xff\xc4\0\x1f\0" + b"\xff" * 16, 1
        ),
        "two SOI": whole[:2] + whole,
        "two images": whole + whole,
        "a thumbnail in EXIF": whole[:2] + segment(0xE1, b"Exif\0\0" + whole) + whole[2:],
        "a thumbnail, pixels cut": whole[:2] + segment(0xE1, b"Exif\0\0" + whole) + whole[2:middle],
        "magic number only": b"\xff\xd8\xff",
        "16 KB of zeros": b"\xff\xd8\xff\xe0" + bytes(2**14),
    }
    return {f"JPEG, {name}": data for name, data in files.items()}


ODD_IMAGES = {**_png_files(), **_jpeg_files()}
