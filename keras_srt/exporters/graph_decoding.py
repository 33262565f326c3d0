"""Encoded images -> model inputs inside the graph: what `keras_srt.core.images` does elsewhere.

A decoder that fails fails the whole batch, and with it the images of others. So each image
is judged by its header, its length and its end before anything is decoded. What this can't
see is damage in the middle of a complete file: a PNG whose compressed data are corrupt, or
a JPEG without its tables, still raises. Servers that must not let that happen decode with
`keras_srt.core.images` and send floats, as `keras-srt serve` does.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from keras_srt.core.images import MAX_BYTES, MAX_PIXELS
from keras_srt.core.tensorflow import tf

MAX_BATCH = 1024

_LUMA = ((0.299,), (0.587,), (0.114,))  # Rec. 601, as in `keras_srt.core.images`

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_IHDR = b"\0\0\0\x0dIHDR"
_PNG_IEND = b"\0\0\0\0IEND\xaeB\x60\x82"
# Signature, IHDR, an IDAT of nothing, IEND.
_PNG_LEAST_BYTES = 8 + 25 + 12 + 12
# libpng's own limit; a longer row raises.
_PNG_MAX_SIDE = 1_000_000

_JPEG_MAGIC = b"\xff\xd8\xff"
_JPEG_EOI = b"\xff\xd9"
_JPEG_SOS = 0xDA
# Frames that every build of libjpeg reads: baseline, extended and progressive.
_JPEG_FRAMES = (0xC0, 0xC1, 0xC2)
# Up to the number of components in a frame header.
_JPEG_HEAD_BYTES = 10
_JPEG_MAX_SEGMENTS = 1000


def decode_images(image_bytes: tf.Tensor, shape: Sequence[int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes PNG and JPEG images to the size and the channels that a model takes.

    Args:
        image_bytes: encoded images, string [batch].
        shape: (height, width, channels) of the model; 1 or 3 channels.

    Returns:
        Images float32 [batch, height, width, channels] in [0, 1], and bool [batch]: whether
        each could be read. Those that couldn't are black.

    Raises:
        tf.errors.InvalidArgumentError: when the graph runs, for a complete file that is
            damaged inside.

    Example:
        >>> images, valid = decode_images(tf.constant([b"GIF89a"]), (28, 28, 1))
        >>> valid.numpy().tolist()
        [False]
    """
    return tf.map_fn(
        functools.partial(_decode, shape=tuple(shape)),
        image_bytes,
        fn_output_signature=(tf.TensorSpec(shape, tf.float32), tf.TensorSpec([], tf.bool)),
        # One after the other, so that the pixels of one image at most are in memory.
        parallel_iterations=1,
    )


def _decode(data: tf.Tensor, shape: tuple[int, ...]) -> tuple[tf.Tensor, tf.Tensor]:
    short = tf.strings.length(data) <= MAX_BYTES
    is_png = short & (tf.strings.substr(data, 0, len(_PNG_MAGIC)) == _PNG_MAGIC)
    is_jpeg = short & (tf.strings.substr(data, 0, len(_JPEG_MAGIC)) == _JPEG_MAGIC)
    png = tf.cond(is_png, lambda: _is_readable_png(data), lambda: False)
    jpeg = tf.cond(is_jpeg, lambda: _is_readable_jpeg(data), lambda: False)

    def pixels() -> tf.Tensor:
        rgb = tf.cond(
            png,
            lambda: tf.io.decode_png(data, channels=3),
            # As Pillow decodes; and what is missing inside is gray there, too.
            lambda: tf.io.decode_jpeg(
                data,
                channels=3,
                dct_method="INTEGER_ACCURATE",
                try_recover_truncated=True,
                acceptable_fraction=0.0,
            ),
        )
        return _fitted(rgb, shape)

    valid = png | jpeg
    return tf.cond(valid, pixels, lambda: tf.zeros(shape)), valid


def _fitted(rgb: tf.Tensor, shape: tuple[int, ...]) -> tf.Tensor:
    """Pixels uint8 [any, any, 3], resized, in [0, 1], in color or gray."""
    height, width, channels = shape
    rgb.set_shape([None, None, 3])
    colors = tf.image.resize(rgb, (height, width), antialias=True) / 255.0
    if channels == 1:
        colors = tf.tensordot(colors, tf.constant(_LUMA), axes=1)
    return tf.clip_by_value(tf.ensure_shape(colors, shape), 0.0, 1.0)


def _is_readable_png(data: tf.Tensor) -> tf.Tensor:
    """Whether it begins with a header of few enough pixels, and has its end."""

    def header() -> tf.Tensor:
        side = tf.io.decode_raw(tf.strings.substr(data, 16, 8), tf.int32, little_endian=False)
        in_range = tf.reduce_all((side >= 1) & (side <= _PNG_MAX_SIDE))
        few = tf.reduce_prod(tf.cast(side, tf.int64)) <= MAX_PIXELS
        begins = tf.strings.substr(data, 8, len(_PNG_IHDR)) == _PNG_IHDR
        return begins & in_range & few & _contains(data, _PNG_IEND)

    return tf.cond(tf.strings.length(data) >= _PNG_LEAST_BYTES, header, lambda: False)


def _is_readable_jpeg(data: tf.Tensor) -> tf.Tensor:
    """Whether its header is gray or color of few enough pixels, and the end comes after it.

    Walks from segment to segment; `tf.io.extract_jpeg_shape` raises where one is damaged.
    """
    length = tf.strings.length(data)

    def head_at(position: tf.Tensor) -> tf.Tensor:
        """The first bytes of a segment, int32 [10]; zeros behind the end of the data."""
        head = tf.strings.substr(data, tf.minimum(position, length), _JPEG_HEAD_BYTES)
        return tf.cast(tf.io.decode_raw(head, tf.uint8, fixed_length=_JPEG_HEAD_BYTES), tf.int32)

    def before_pixels(_: tf.Tensor, head: tf.Tensor, *__: tf.Tensor) -> tf.Tensor:
        # Markers below 0xC0 don't stand there.
        return (head[0] == 0xFF) & (head[1] >= 0xC0) & (head[1] != _JPEG_SOS)

    def step(
        position: tf.Tensor, head: tf.Tensor, frames: tf.Tensor, fits: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        is_frame = tf.reduce_any(head[1] == tf.constant(_JPEG_FRAMES))
        size = head[2] * 256 + head[3]  # of the segment without its marker, these 2 bytes included
        fits &= (size >= 2) & (_is_fitting_frame(head) | ~is_frame)
        position += 2 + size
        return position, head_at(position), frames + tf.cast(is_frame, tf.int32), fits

    start = tf.constant(len(_JPEG_EOI))
    position, head, frames, fits = tf.while_loop(
        before_pixels,
        step,
        (start, head_at(start), tf.constant(0), tf.constant(True)),
        maximum_iterations=_JPEG_MAX_SEGMENTS,
        parallel_iterations=1,
    )
    # In the pixels 0xFF is followed by 0, so that the end can't occur there by chance; cameras
    # put more behind it.
    return tf.cond(
        fits & (frames == 1) & (head[1] == _JPEG_SOS),
        lambda: _contains(tf.strings.substr(data, position, length), _JPEG_EOI),
        lambda: False,
    )


def _is_fitting_frame(head: tf.Tensor) -> tf.Tensor:
    """Whether a frame header (marker, length, precision, height, width, components) is usable."""
    height, width = head[5] * 256 + head[6], head[7] * 256 + head[8]
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    known = (head[9] == 1) | (head[9] == 3)  # 4 are CMYK
    return (head[4] == 8) & known & (pixels >= 1) & (pixels <= MAX_PIXELS)


def _contains(data: tf.Tensor, part: bytes) -> tf.Tensor:
    # RE2 matches text, not bytes.
    pieces = tf.strings.split(data[None], part, maxsplit=1)
    return tf.size(pieces.flat_values) == 2
