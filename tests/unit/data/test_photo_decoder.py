"""Photo decoding: formats, rotation, transparency, bit depth and resizing."""

import io

import encoded
import numpy as np
import pytest
from PIL import Image, ImageOps

from keras_srt.core.images import BadImage, decode_image
from keras_srt.data.photo_decoder import PhotoDecoder

COLORS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
AS_IS = PhotoDecoder(size=(5, 7), channels=3)


def exif(orientation):
    made = Image.Exif()
    made[0x0112] = orientation
    return made


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_keep_every_pixel(kind):
    np.testing.assert_array_equal(AS_IS.decode(encoded.encode(COLORS, kind)), COLORS)


def test_gif_decodes_the_first_frame():
    frames = [Image.fromarray(np.full((5, 7), value, np.uint8)) for value in (40, 200)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(AS_IS.decode(buffer.getvalue()), np.full((5, 7, 3), 40))


def test_jpeg_is_close_to_the_original():
    found = PhotoDecoder(encoded.SMOOTH.shape[:2], 3).decode(encoded.JPEG)
    assert np.median(np.abs(np.int16(found) - encoded.SMOOTH)) <= 3


@pytest.mark.parametrize(
    ("orientation", "seen"),
    [
        (1, [[1, 2, 3], [4, 5, 6]]),
        (2, [[3, 2, 1], [6, 5, 4]]),
        (3, [[6, 5, 4], [3, 2, 1]]),
        (4, [[4, 5, 6], [1, 2, 3]]),
        (5, [[1, 4], [2, 5], [3, 6]]),
        (6, [[4, 1], [5, 2], [6, 3]]),
        (7, [[6, 3], [5, 2], [4, 1]]),
        (8, [[3, 6], [2, 5], [1, 4]]),
    ],
)
def test_exif_rotation_is_applied(orientation, seen):
    stored = np.uint8([[1, 2, 3], [4, 5, 6]])
    data = encoded.encode(stored, exif=exif(orientation))
    decoder = PhotoDecoder(np.shape(seen), channels=1)
    np.testing.assert_array_equal(decoder.decode(data)[..., 0], seen)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_invalid_exif_orientations_are_ignored(orientation):
    data = encoded.encode(COLORS, exif=exif(orientation))
    np.testing.assert_array_equal(AS_IS.decode(data), COLORS)


def test_damaged_exif_is_ignored():
    data = encoded.encode(COLORS, exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff")
    np.testing.assert_array_equal(AS_IS.decode(data), COLORS)


def transparent(mode):
    """Left column opaque, the others transparent."""
    alpha = np.zeros(COLORS.shape[:2], np.uint8)
    alpha[:, 0] = 255
    if mode == "RGBA":
        return Image.fromarray(np.dstack([COLORS, alpha]))
    return Image.fromarray(np.dstack([COLORS[..., 0], alpha]), "LA")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_ignored_or_shows_a_background(mode):
    data = encoded.encode(transparent(mode))
    opaque = COLORS if mode == "RGBA" else np.repeat(COLORS[..., :1], 3, axis=-1)
    np.testing.assert_array_equal(AS_IS.decode(data), opaque)
    shown = PhotoDecoder((5, 7), 3, background=(10, 20, 30)).decode(data)
    np.testing.assert_array_equal(shown[:, 0], opaque[:, 0])
    np.testing.assert_array_equal(shown[:, 1:], np.broadcast_to([10, 20, 30], (5, 6, 3)))


@pytest.mark.filterwarnings("error")
def test_transparent_palette_does_not_warn():
    data = encoded.READABLE["png palette with transparency"]
    assert AS_IS.decode(data).shape == (5, 7, 3)


def test_16_bit_photos_keep_the_upper_8_bits():
    deep = np.uint16([[0, 255, 256], [511, 65535, 0x1234]])
    found = PhotoDecoder((2, 3), 1).decode(encoded.encode(Image.fromarray(deep)))
    np.testing.assert_array_equal(found[..., 0], [[0, 0, 1], [1, 255, 0x12]])


def test_gray_is_rec_601():
    found = PhotoDecoder((1, 3), 1).decode(encoded.encode(np.uint8([np.eye(3) * 255])))
    np.testing.assert_allclose(found.ravel(), [76.2, 149.7, 29.1], atol=1)


def test_stretch_equals_server_decoding():
    found = PhotoDecoder((9, 4), 3).decode(encoded.PNG) / 255.0
    np.testing.assert_allclose(found, decode_image(encoded.PNG, (9, 4, 3)), atol=1.01 / 255)


WIDE = np.repeat(np.uint8([[10, 20, 30, 40]]), 2, axis=0)  # 2 x 4


@pytest.mark.parametrize(
    ("resize", "seen"),
    [("crop", [[20, 30], [20, 30]]), ("stretch", [[15, 35], [15, 35]])],
)
def test_crop_takes_the_center_and_stretch_the_whole_photo(resize, seen):
    found = PhotoDecoder((2, 2), 1, resize).decode(encoded.encode(WIDE))[..., 0]
    assert np.max(np.abs(np.int16(found) - seen)) <= (0 if resize == "crop" else 3)


def test_fit_adds_margins():
    decoder = PhotoDecoder((4, 4), 3, "fit", background=(1, 2, 3))
    found = decoder.decode(encoded.encode(WIDE))
    np.testing.assert_array_equal(found[1:3, :, 0], WIDE)
    for row in (0, 3):
        np.testing.assert_array_equal(found[row], np.broadcast_to([1, 2, 3], (4, 3)))


def test_large_jpeg_is_decoded_at_reduced_scale():
    large = np.asarray(Image.fromarray(encoded.SMOOTH).resize((1600, 1200)))
    data = encoded.encode(large, "JPEG", quality=95)
    found = PhotoDecoder((60, 80), 3).decode(data)
    whole = np.asarray(Image.open(io.BytesIO(data)).resize((80, 60), Image.Resampling.BILINEAR))
    assert np.max(np.abs(np.int16(found) - whole)) <= 4


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_reduced_scale_fits_the_upright_photo(orientation):
    """4000×1000 turned by EXIF is 1000×4000, which must not be reduced to less than the size."""
    noise = np.random.default_rng(0).integers(0, 256, (50, 200, 3), np.uint8)
    image = Image.fromarray(noise).resize((4000, 1000), Image.Resampling.BICUBIC)
    data = encoded.encode(np.asarray(image), "JPEG", quality=95, exif=exif(orientation))
    turned = orientation >= 5
    size = (800, 100) if turned else (100, 800)
    found = PhotoDecoder(size, 3).decode(data)
    whole = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert whole.size == ((1000, 4000) if turned else (4000, 1000))
    whole = np.asarray(whole.resize(size[::-1], Image.Resampling.BILINEAR))
    assert np.max(np.abs(np.int16(found) - whole)) <= 6


@pytest.mark.parametrize("name", encoded.READABLE | encoded.PILLOW_ONLY)
def test_training_reads_all_server_formats(name):
    data = (encoded.READABLE | encoded.PILLOW_ONLY)[name]
    found = PhotoDecoder((8, 9), 1).decode(data)
    assert found.shape == (8, 9, 1)
    assert found.dtype == np.uint8


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"text", r"is in no supported format \(it begins with b'text'\); allowed: PNG, JPEG"),
        (encoded.UNREADABLE["tiff of floats"], "has float values; allowed: 8 or 16 bits"),
        (encoded.encode(COLORS, "BMP")[:-9], "is a damaged BMP"),
        (encoded.encode(COLORS, "GIF")[:-30], "is a damaged GIF"),
        (encoded.JPEG[:-200], "is a truncated JPEG"),
        (encoded.PNG[:-200], "is a truncated PNG"),
    ],
)
def test_bad_photos_are_rejected_with_a_reason(data, reason):
    with pytest.raises(BadImage, match=f"^{reason}"):
        AS_IS.decode(data)
