"""Image decoding."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
from encoded import JPEG, PILLOW_ONLY, PNG, READABLE, RGB, SMOOTH, UNREADABLE, bomb, encode, png
from PIL import Image

from keras_srt.core import images
from keras_srt.core.images import MAX_BYTES, MAX_PIXELS, BadImage, count_pixels, decode_image


def test_image_of_the_target_size_is_unchanged():
    got = decode_image(PNG, RGB.shape)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, np.float32(RGB / np.float32(255)))


@pytest.mark.parametrize(
    ("color", "gray"),
    [((255, 0, 0), 0.299), ((0, 255, 0), 0.587), ((0, 0, 255), 0.114), ((51, 51, 51), 0.2)],
)
def test_color_becomes_gray_by_rec_601(color, gray):
    image = np.full((3, 4, 3), color, np.uint8)
    np.testing.assert_allclose(decode_image(encode(image), (3, 4, 1)), gray, atol=1e-6)


def test_gray_becomes_equal_rgb():
    got = decode_image(encode(RGB[..., 0]), RGB.shape)
    for channel in range(3):
        np.testing.assert_array_equal(got[..., channel], np.float32(RGB[..., 0] / np.float32(255)))


def test_16_bit_images_keep_the_upper_8_bits():
    values = np.array([[0xABCD, 0x00FF], [0x0100, 0xFFFF]], np.uint16)
    got = decode_image(encode(Image.fromarray(values)), (2, 2, 1))[..., 0]
    np.testing.assert_allclose(got * 255, [[0xAB, 0], [1, 255]], atol=1e-4)


def test_transparency_is_ignored():
    clear = np.dstack([RGB, np.zeros_like(RGB[..., :1])])
    np.testing.assert_array_equal(
        decode_image(encode(clear), RGB.shape), decode_image(PNG, RGB.shape)
    )


def test_exif_orientation_is_ignored():
    shape = (20, 30, 3)
    turned = decode_image(READABLE["jpeg turned by EXIF"], shape)
    np.testing.assert_array_equal(turned, decode_image(JPEG, shape))


@pytest.mark.parametrize("size", [(1, 1), (7, 90), (300, 200)])
def test_constant_image_stays_constant_at_any_size(size):
    image = np.full((40, 60, 3), (10, 120, 250), np.uint8)
    got = decode_image(encode(image), (*size, 3))
    expected = np.broadcast_to(np.float32([10, 120, 250]) / 255, (*size, 3))
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_downscaling_averages_fine_detail():
    checkers = np.uint8(np.indices((64, 64)).sum(axis=0) % 2 * 255)
    got = decode_image(encode(checkers), (8, 8, 1))
    # Without antialiasing each would be 0 or 1.
    np.testing.assert_allclose(got, 0.5, atol=0.02)


def test_image_is_stretched_not_cropped():
    halves = np.zeros((10, 40), np.uint8)
    halves[:, 20:] = 255
    got = decode_image(encode(halves), (20, 20, 1))[..., 0]
    np.testing.assert_allclose(got[:, :9], 0, atol=1e-6)
    np.testing.assert_allclose(got[:, 11:], 1, atol=1e-6)


@pytest.mark.parametrize("name", READABLE)
def test_every_readable_image_is_in_range(name):
    for shape in ((12, 10, 3), (9, 11, 1)):
        got = decode_image(READABLE[name], shape)
        assert got.shape == shape
        assert got.dtype == np.float32
        assert 0 <= got.min() <= got.max() <= 1


@pytest.mark.parametrize("name", PILLOW_ONLY)
def test_every_format_has_the_same_colors(name):
    shape = (12, 10, 3)
    expected = decode_image(encode(SMOOTH), shape)
    np.testing.assert_allclose(decode_image(PILLOW_ONLY[name], shape), expected, atol=0.02)
    assert count_pixels(PILLOW_ONLY[name]) == 46 * 62


@pytest.mark.parametrize("name", ["webp", "webp without loss", "tiff", "tiff lzw", "jpeg of CMYK"])
def test_a_truncated_file_is_rejected_at_any_length(name):
    whole = PILLOW_ONLY[name]
    for length in range(1, len(whole) - 2, len(whole) // 20):
        with pytest.raises(BadImage):
            decode_image(whole[:length], (4, 4, 3))


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP"])
def test_the_pixel_limit_holds_for_every_format(kind):
    data = encode(SMOOTH, kind)
    with pytest.raises(BadImage, match="62 x 46 pixels; allowed: at most 2,851"):
        decode_image(data, (4, 4, 3), max_pixels=46 * 62 - 1)


def test_heic_is_read_if_its_plugin_is_installed():
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(SMOOTH)).save(buffer, quality=95)
    shape = (12, 10, 3)
    expected = decode_image(encode(SMOOTH), shape)
    np.testing.assert_allclose(decode_image(buffer.getvalue(), shape), expected, atol=0.02)
    with pytest.raises(BadImage, match="is a damaged HEIF"):
        decode_image(buffer.getvalue()[:-50], shape)


def test_heic_without_its_plugin_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    images._enable_heic.cache_clear()
    with pytest.raises(BadImage, match="is a HEIC image; pip install pillow-heif to read it"):
        decode_image(b"\0\0\0\x18ftypheic" + b"\0" * 99, (4, 4, 3))


@pytest.mark.parametrize(
    ("spec", "end"), [(None, "HEIC (with pip install pillow-heif)"), (1, "HEIC")]
)
def test_an_unknown_format_names_heic_with_what_it_needs(spec, end, monkeypatch):
    monkeypatch.setattr(images.importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(BadImage, match="is in no supported format") as caught:
        decode_image(b"text", (4, 4, 3))
    assert str(caught.value).endswith(f"allowed: PNG, JPEG, BMP, GIF, WebP, TIFF, {end}")


@pytest.mark.parametrize("name", UNREADABLE)
def test_every_unreadable_image_is_rejected_with_a_reason(name):
    with pytest.raises(BadImage, match=r"is |has |promises "):
        decode_image(UNREADABLE[name], (9, 11, 1))


@pytest.mark.parametrize(
    ("depth", "color", "bits"), [(1, 0, 1), (8, 0, 8), (16, 2, 48), (8, 6, 32)]
)
def test_png_with_missing_rows_is_rejected(depth, color, bits):
    row = bytes(1 + -(-5 * bits // 8))
    whole, short = (png(5, 3, zlib.compress(row * rows), depth, color) for rows in (3, 2))
    decode_image(whole, (4, 4, 1))
    with pytest.raises(BadImage, match="last rows are missing"):
        decode_image(short, (4, 4, 1))


def test_missing_rows_of_interlaced_png_are_detected():
    # 5 x 3 in Adam7 is 1x1, 1x1, nothing, 1x1, 3x1, 2x2 and 5x1 pixels, a byte before each row.
    pixels = bytes(2 + 2 + 0 + 2 + 4 + 2 * 3 + 6)
    decode_image(interlaced(5, 3, pixels), (4, 4, 1))
    with pytest.raises(BadImage, match="last rows are missing"):
        decode_image(interlaced(5, 3, pixels[:-6]), (4, 4, 1))


def interlaced(width, height, pixels):
    whole = bytearray(png(width, height, zlib.compress(pixels)))
    whole[28] = 1
    whole[29:33] = struct.pack(">I", zlib.crc32(whole[12:29]))
    return bytes(whole)


def test_limits_are_inclusive():
    assert (MAX_BYTES, MAX_PIXELS) == (16 * 2**20, 2**24)
    shape = (4, 4, 3)
    decode_image(PNG, shape, max_bytes=len(PNG), max_pixels=23 * 31)
    with pytest.raises(BadImage, match=f"{len(PNG):,} bytes; allowed: at most {len(PNG) - 1:,}"):
        decode_image(PNG, shape, max_bytes=len(PNG) - 1)
    with pytest.raises(BadImage, match="31 x 23 pixels; allowed: at most 712"):
        decode_image(PNG, shape, max_pixels=23 * 31 - 1)


def test_decompression_bomb_is_rejected_by_its_header():
    # Were they decoded, the pixels would be no pixels, and the reason another.
    for side in (4097, 60_000):
        with pytest.raises(BadImage, match="pixels"):
            decode_image(png(side, side, b"no pixels"), (4, 4, 1))
    assert decode_image(bomb(4096), (4, 4, 1)).max() == 0


def test_unsupported_channels_raise_value_error():
    with pytest.raises(ValueError, match="2 channels"):
        decode_image(PNG, (4, 4, 2))


@pytest.mark.parametrize("whole", [PNG, JPEG, READABLE["png palette"]], ids=["png", "jpeg", "p"])
def test_damage_raises_bad_image_only(whole):
    generator = np.random.default_rng(3)
    refused = 0
    for _ in range(150):
        data = bytearray(whole[: generator.integers(len(whole)) or None])
        for place in generator.integers(len(data), size=generator.integers(4)):
            data[place] = generator.integers(256)
        try:
            got = decode_image(bytes(data), (6, 5, 3))
        except BadImage:
            refused += 1
        else:
            assert 0 <= got.min() <= got.max() <= 1
    assert refused > 100


def test_corrupt_pixels_are_rejected():
    assert decode_image(png(2, 2, zlib.compress(b"\0\1\2" * 2)), (2, 2, 1)).max() < 0.01
    for pixels in (b"no zlib", zlib.compress(b"\0\1\2" * 2)[:-7], zlib.compress(b"\7\1\2" * 2)):
        with pytest.raises(BadImage):
            decode_image(png(2, 2, pixels), (2, 2, 1))
    broken = bytearray(encode(SMOOTH))
    middle = len(broken) // 2
    broken[middle : middle + 4] = struct.pack(">I", 0xDEADBEEF)
    with pytest.raises(BadImage):
        decode_image(bytes(broken), (4, 4, 3))
