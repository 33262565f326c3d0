"""Decoding in the graph agrees with Pillow, and no header makes it raise or use much memory."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from encoded import (
    JPEG,
    PILLOW_ONLY,
    PNG,
    READABLE,
    SMOOTH,
    UNREADABLE,
    bomb,
    encode,
    png,
)
from odd_images import ODD_IMAGES, chunk, ihdr
from odd_images import png as png_of

from keras_srt.core.images import MAX_BYTES, BadImage, decode_image
from keras_srt.exporters.graph_decoding import decode_images

COLOR, GRAY = (12, 10, 3), (9, 11, 1)
# Pillow and TensorFlow add up the same weights in another order.
TOLERANCE = 5e-6


def graph(shape):
    spec = tf.TensorSpec([None], tf.string)
    return tf.function(lambda data: decode_images(data, shape), [spec], autograph=False)


@pytest.fixture(scope="module", params=[COLOR, GRAY], ids=["color", "gray"])
def shape(request):
    return request.param


@pytest.fixture(scope="module")
def decode(shape):
    run = graph(shape)
    return lambda data: [value.numpy() for value in run(tf.constant(list(data), tf.string))]


@pytest.fixture(scope="module")
def is_valid():
    """Whether one image is."""
    run = graph((4, 4, 1))
    return lambda data: bool(run(tf.constant([bytes(data)]))[1].numpy()[0])


def test_the_graph_decodes_as_pillow_does(decode, shape):
    images, valid = decode(READABLE.values())
    assert dict(zip(READABLE, valid, strict=True)) == dict.fromkeys(READABLE, True)
    assert images.dtype == np.float32
    for name, image in zip(READABLE, images, strict=True):
        expected = decode_image(READABLE[name], shape)
        np.testing.assert_allclose(image, expected, atol=TOLERANCE, err_msg=name)
        assert 0 <= image.min() <= image.max() <= 1


def test_what_cannot_be_read_is_black_and_spoils_no_other(decode, shape):
    unreadable = [*UNREADABLE.values(), *PILLOW_ONLY.values()]
    images, valid = decode([PNG, *unreadable, JPEG])
    assert valid.tolist() == [True, *[False] * len(unreadable), True]
    np.testing.assert_array_equal(images[1:-1], 0)
    for image, data in ((images[0], PNG), (images[-1], JPEG)):
        np.testing.assert_allclose(image, decode_image(data, shape), atol=TOLERANCE)


@pytest.mark.parametrize("whole", [PNG, JPEG, READABLE["jpeg progressive"]], ids=len)
def test_a_file_cut_anywhere_is_invalid(whole, is_valid):
    assert is_valid(whole)
    places = {*range(0, len(whole), len(whole) // 40), *range(45), len(whole) - 1}
    assert [place for place in places if is_valid(whole[:place])] == []


def jpeg_with(marker, data):
    """The JPEG with a segment more in front."""
    return JPEG[:2] + bytes([0xFF, marker]) + (len(data) + 2).to_bytes(2, "big") + data + JPEG[2:]


FRAME = JPEG.index(b"\xff\xc0")


def jpeg_frame(place, *values):
    """The JPEG with other bytes in its frame header."""
    return JPEG[: FRAME + place] + bytes(values) + JPEG[FRAME + place + len(values) :]


HEADERS = {
    "a comment more": (jpeg_with(0xFE, b"comment"), True),
    "a segment that leads behind the end": (JPEG[:2] + b"\xff\xfe\xff\xff" + JPEG[2:], False),
    "a length below 2": (JPEG[:2] + b"\xff\xfe\0\0" + JPEG[2:], False),
    "a second frame": (jpeg_with(0xC0, JPEG[FRAME + 4 : FRAME + 19]), False),
    "12 bits": (jpeg_frame(4, 12), False),
    "no rows": (jpeg_frame(5, 0, 0), False),
    "65535 x 65535": (jpeg_frame(5, 255, 255, 255, 255), False),
    "4097 x 4096": (jpeg_frame(5, 16, 1, 16, 0), False),
    "2 components": (jpeg_frame(9, 2), False),
    "lossless": (jpeg_frame(1, 0xC3), False),
    "arithmetic coding": (jpeg_frame(1, 0xC9), False),
    "nothing but segments": (b"\xff\xd8" + b"\xff\xe0\0\2" * 100_000, False),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_of_jpegs(name, is_valid):
    data, expected = HEADERS[name]
    assert is_valid(data) == expected


@pytest.mark.parametrize(
    ("width", "height"),
    [(0, 1), (1, 0), (2**31, 2), (2**32 - 1, 2**32 - 1), (4097, 4096), (1_000_001, 1)],
)
def test_sizes_of_pngs(width, height, is_valid):
    # Were the pixels asked for, it would raise: there are none.
    assert not is_valid(png(width, height, b"no pixels"))


def test_limits_are_those_of_images(is_valid):
    assert is_valid(bomb(4096))
    padded = PNG + b"\0" * (MAX_BYTES - len(PNG))
    assert is_valid(padded)
    assert not is_valid(padded + b"\0")


def test_a_bomb_costs_nothing(is_valid):
    peak = Path("/proc/self/clear_refs")
    if not peak.exists():
        pytest.skip("no /proc to measure the memory with")
    bombs = [bomb(8192), encode(np.zeros((4100, 4100), np.uint8), "JPEG")]

    def high_water():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))

    is_valid(PNG)
    peak.write_text("5")  # sets the high-water mark to what is in use
    before = high_water()
    assert [is_valid(data) for data in bombs] == [False] * 2
    # Decoded, they would take 192 and 48 MB.
    assert high_water() - before < 20


def test_only_damage_inside_a_whole_file_raises(decode, is_valid):
    """What a guard of headers can't see; keras-srt serve decodes outside the graph instead."""
    damaged = bytearray(encode(SMOOTH))
    damaged[len(damaged) // 2] ^= 0xFF
    for data in (bytes(damaged), png(3, 3, b"no zlib")):
        with pytest.raises(tf.errors.InvalidArgumentError, match="PNG"):
            is_valid(data)
    # A JPEG's pixels may be damaged: what is left is shown, as by Pillow.
    middle = len(JPEG) * 3 // 4
    assert is_valid(JPEG[:middle] + b"\0\0\0\0" + JPEG[middle + 4 :])
    assert decode([PNG])[1].tolist() == [True]


# Damage inside the pixels or tables of a file with an intact structure: `serve` and devices call it
# unreadable, and the graph raises, which fails the batch.
RAISING = {
    "PNG, bad IDAT CRC",
    "PNG, bad IHDR CRC",
    "PNG, no Adler checksum",
    "PNG, half an Adler checksum",
    "PNG, wrong Adler checksum",
    "PNG, pixels cut",
    "PNG, rows missing",
    "PNG, bad zlib header",
    "PNG, large zlib window",
    "PNG, bad compressed data",
    "PNG, bad filter",
    "JPEG, marker in the pixels",
    "JPEG, progressive cut, EOI",
    "JPEG, no quantization tables",
    "JPEG, said to be progressive",
    "JPEG, sampling factor 0",
    "JPEG, unknown quantization table",
}
# The graph has no conversion for it.
NOT_IN_THE_GRAPH = {"JPEG, CMYK"}


@pytest.fixture(scope="module")
def judge():
    """The graph's image, None if it is invalid; raises what the graph raises."""
    run = graph(COLOR)

    def call(data):
        (image,), (valid,) = run(tf.constant([data]))
        return image.numpy() if valid else None

    return call


def verdict(decode, data):
    """Whether a decoder calls a file valid or invalid, or raises; and the image."""
    try:
        image = decode(data)
    except BadImage:
        return "invalid", None
    except tf.errors.InvalidArgumentError:
        return "raises", None
    return ("invalid" if image is None else "valid"), image


def test_graph_and_pillow_judge_a_file_in_the_same_way(judge):
    differing = {}
    for name, data in ODD_IMAGES.items():
        ours, expected = verdict(lambda data: decode_image(data, COLOR), data)
        of_graph, image = verdict(judge, data)
        if ours == of_graph == "valid":
            np.testing.assert_allclose(image, expected, atol=TOLERANCE, err_msg=name)
        elif ours != of_graph:
            differing[name] = ours, of_graph
    assert differing == {
        **dict.fromkeys(RAISING, ("invalid", "raises")),
        **dict.fromkeys(NOT_IN_THE_GRAPH, ("valid", "invalid")),
    }


@pytest.mark.parametrize(("width", "height"), [(1, 2**24), (2**24, 1), (65_536, 1)])
def test_thin_images_are_refused_before_they_are_resized(judge, width, height):
    data = png_of(ihdr(width, height), chunk(b"IDAT", b"no pixels"))
    assert judge(data) is None
    with pytest.raises(BadImage, match="65,535 in a row or column"):
        decode_image(data, COLOR)


def test_a_png_of_very_many_chunks_is_invalid(judge):
    whole = ODD_IMAGES["PNG, rgb"]
    for count, valid in ((2**12 - 8, True), (2**12, False)):
        data = whole[:33] + chunk(b"abCd") * count + whole[33:]
        assert (judge(data) is not None) == valid
        if valid:
            assert decode_image(data, COLOR).shape == COLOR
        else:
            with pytest.raises(BadImage, match="too many chunks"):
                decode_image(data, COLOR)
