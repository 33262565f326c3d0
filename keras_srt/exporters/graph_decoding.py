"""Decoding of PNG and JPEG images inside a TensorFlow graph.

The counterpart of `keras_srt.core.images`, which decodes more formats with Pillow. Other formats
and CMYK JPEG are unreadable here. If a decoder operation fails, the whole batch fails. Therefore
the structure of each image is checked before it is decoded, as by
`keras_srt.core.image_structure`. The checks miss damage inside a complete file: a PNG with a wrong
checksum or corrupt compressed data, or a JPEG with invalid tables, still raises. `keras-srt serve`
avoids this by decoding with `keras_srt.core.images` and passing floats to the model.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from keras_srt.core.image_structure import (
    JPEG_EOI,
    JPEG_FRAMES,
    JPEG_HEAD_BYTES,
    JPEG_MAX_SEGMENTS,
    JPEG_SOS,
    MAX_SIDE,
    PNG_DEPTHS,
    PNG_MAGIC,
    PNG_MAX_CHUNKS,
    PNG_PALETTE,
)
from keras_srt.core.images import MAX_BYTES, MAX_PIXELS
from keras_srt.core.tensorflow import tf

MAX_BATCH = 1024

_LUMA = ((0.299,), (0.587,), (0.114,))  # ITU-R BT.601, as in `keras_srt.core.images`

_PNG_IHDR = b"\0\0\0\x0dIHDR"
_PNG_IHDR_END = 8 + 25
_PNG_IEND = b"\0\0\0\0IEND\xaeB\x60\x82"
_PNG_MIN_BYTES = _PNG_IHDR_END + 12 + 12  # with an empty IDAT and IEND

_JPEG_MAGIC = b"\xff\xd8\xff"


def decode_images(image_bytes: tf.Tensor, shape: Sequence[int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode PNG and JPEG images to the input size and channels of a model.

    Args:
        image_bytes: Encoded images, string [batch].
        shape: (height, width, channels) of the model; 1 or 3 channels.

    Returns:
        Images, float32 [batch, height, width, channels] in [0, 1], and whether each image is
        readable, bool [batch]. Unreadable images are black.

    Raises:
        tf.errors.InvalidArgumentError: When the graph runs, for a complete file with damage
            inside.

    Example:
        >>> images, valid = decode_images(tf.constant([b"GIF89a"]), (28, 28, 1))
        >>> valid.numpy().tolist()
        [False]
    """
    return tf.map_fn(
        functools.partial(_decode, shape=tuple(shape)),
        image_bytes,
        fn_output_signature=(tf.TensorSpec(shape, tf.float32), tf.TensorSpec([], tf.bool)),
        # Sequentially, so that at most one decoded image is in memory.
        parallel_iterations=1,
    )


def _decode(data: tf.Tensor, shape: tuple[int, ...]) -> tuple[tf.Tensor, tf.Tensor]:
    short = tf.strings.length(data) <= MAX_BYTES
    is_png = short & (tf.strings.substr(data, 0, len(PNG_MAGIC)) == PNG_MAGIC)
    is_jpeg = short & (tf.strings.substr(data, 0, len(_JPEG_MAGIC)) == _JPEG_MAGIC)
    png = tf.cond(is_png, lambda: _is_readable_png(data), lambda: False)
    jpeg = tf.cond(is_jpeg, lambda: _is_readable_jpeg(data), lambda: False)

    def pixels() -> tf.Tensor:
        rgb = tf.cond(
            png,
            lambda: tf.io.decode_png(data, channels=3),
            # Same settings as Pillow; missing data inside a file are gray, as with Pillow.
            lambda: tf.io.decode_jpeg(
                data,
                channels=3,
                dct_method="INTEGER_ACCURATE",
                try_recover_truncated=True,
                acceptable_fraction=0.0,
            ),
        )
        return _resize(rgb, shape)

    valid = png | jpeg
    return tf.cond(valid, pixels, lambda: tf.zeros(shape)), valid


def _resize(rgb: tf.Tensor, shape: tuple[int, ...]) -> tf.Tensor:
    """Convert pixels uint8 [any, any, 3] to float32 `shape` in [0, 1], color or gray."""
    height, width, channels = shape
    rgb.set_shape([None, None, 3])
    colors = tf.image.resize(rgb, (height, width), antialias=True) / 255.0
    if channels == 1:
        colors = tf.tensordot(colors, tf.constant(_LUMA), axes=1)
    return tf.clip_by_value(tf.ensure_shape(colors, shape), 0.0, 1.0)


def _is_readable_png(data: tf.Tensor) -> tf.Tensor:
    """Whether a PNG has a valid header, an allowed size, and its chunks in order up to the end."""

    def header() -> tf.Tensor:
        side = tf.io.decode_raw(tf.strings.substr(data, 16, 8), tf.int32, little_endian=False)
        in_range = tf.reduce_all((side >= 1) & (side <= MAX_SIDE))
        few = tf.reduce_prod(tf.cast(side, tf.int64)) <= MAX_PIXELS
        begins = tf.strings.substr(data, 8, len(_PNG_IHDR)) == _PNG_IHDR
        fields = tf.cast(tf.io.decode_raw(tf.strings.substr(data, 24, 5), tf.uint8), tf.int32)
        fits = begins & in_range & few & _are_valid_fields(fields) & _contains(data, _PNG_IEND)
        return tf.cond(fits, lambda: _are_ordered_chunks(data, fields[1]), lambda: False)

    return tf.cond(tf.strings.length(data) >= _PNG_MIN_BYTES, header, lambda: False)


def _are_valid_fields(fields: tf.Tensor) -> tf.Tensor:
    """Whether depth, color type, compression, filter and interlacing of a PNG are valid."""
    pairs = [depth * 256 + color for color, depths in PNG_DEPTHS.items() for depth in depths]
    known = tf.reduce_any(fields[0] * 256 + fields[1] == tf.constant(pairs))
    return known & (fields[2] == 0) & (fields[3] == 0) & (fields[4] <= 1)


def _are_ordered_chunks(data: tf.Tensor, color: tf.Tensor) -> tf.Tensor:
    """Whether the chunks of a PNG are as in `checked_png`, after the header, without checksums."""
    total = tf.cast(tf.strings.length(data), tf.int64)
    plte, idat, iend = (int.from_bytes(name, "big") for name in (b"PLTE", b"IDAT", b"IEND"))

    def before_end(_: tf.Tensor, __: tf.Tensor, name: tf.Tensor, *others: tf.Tensor) -> tf.Tensor:
        return others[-1] & (name != iend)

    def step(
        position: tf.Tensor,
        length: tf.Tensor,
        name: tf.Tensor,
        before: tf.Tensor,
        palettes: tf.Tensor,
        pixels: tf.Tensor,
        fits: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        is_palette, is_pixels = name == plte, name == idat
        is_critical = name < ord("a") * 2**24  # its first letter is uppercase
        fits &= (name != 0) & (position + 12 + length <= total)
        fits &= ~is_critical | is_palette | is_pixels
        in_bounds = (length % 3 == 0) & (length >= 3) & (length <= 768)
        fits &= ~is_palette | (~palettes & ~pixels & (in_bounds | (color != PNG_PALETTE)))
        fits &= ~is_pixels | ~pixels | (before == idat)
        position += 12 + length
        return (
            position,
            *_chunk_at(data, position),
            name,
            palettes | is_palette,
            pixels | is_pixels,
            fits,
        )

    start, no = tf.constant(_PNG_IHDR_END, tf.int64), tf.constant(False)
    nothing = tf.constant(0, tf.int64)
    *_, last, _, palettes, pixels, fits = tf.while_loop(
        before_end,
        step,
        (start, *_chunk_at(data, start), nothing, no, no, tf.constant(True)),
        maximum_iterations=PNG_MAX_CHUNKS,
        parallel_iterations=1,
    )
    return fits & (last == iend) & pixels & (palettes | (color != PNG_PALETTE))


def _chunk_at(data: tf.Tensor, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return length and name of a PNG chunk, int64; 0 beyond the end, and for an invalid name."""
    start = tf.minimum(position, tf.cast(tf.strings.length(data), tf.int64))
    head = tf.strings.substr(data, start, 8)
    values = tf.cast(tf.io.decode_raw(head, tf.uint8, fixed_length=8), tf.int64)
    numbers = tf.reduce_sum(tf.reshape(values, [2, 4]) * [2**24, 2**16, 2**8, 1], axis=1)
    is_upper = (values[4:] >= ord("A")) & (values[4:] <= ord("Z"))
    is_lower = (values[4:] >= ord("a")) & (values[4:] <= ord("z"))
    named = tf.reduce_all(is_upper | is_lower)
    return numbers[0], tf.where(named, numbers[1], 0)


def _is_readable_jpeg(data: tf.Tensor) -> tf.Tensor:
    """Whether a JPEG is gray or RGB, has an allowed number of pixels, and an end marker.

    Walks from segment to segment, because `tf.io.extract_jpeg_shape` raises for damaged files.
    """
    length = tf.strings.length(data)

    def head_at(position: tf.Tensor) -> tf.Tensor:
        """Read the first bytes of a segment, int32 [10], padded with zeros."""
        head = tf.strings.substr(data, tf.minimum(position, length), JPEG_HEAD_BYTES)
        return tf.cast(tf.io.decode_raw(head, tf.uint8, fixed_length=JPEG_HEAD_BYTES), tf.int32)

    def before_pixels(_: tf.Tensor, head: tf.Tensor, *__: tf.Tensor) -> tf.Tensor:
        # Markers below 0xC0 don't occur before the pixels.
        return (head[0] == 0xFF) & (head[1] >= 0xC0) & (head[1] != JPEG_SOS)

    def step(
        position: tf.Tensor, head: tf.Tensor, frames: tf.Tensor, fits: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        is_frame = tf.reduce_any(head[1] == tf.constant(JPEG_FRAMES))
        is_fill = head[1] == 0xFF
        size = head[2] * 256 + head[3]  # of the segment without its marker
        fits &= is_fill | ((size >= 2) & (_is_fitting_frame(head) | ~is_frame))
        position += tf.where(is_fill, 1, 2 + size)
        return position, head_at(position), frames + tf.cast(is_frame, tf.int32), fits

    start = tf.constant(len(JPEG_EOI))
    position, head, frames, fits = tf.while_loop(
        before_pixels,
        step,
        (start, head_at(start), tf.constant(0), tf.constant(True)),
        maximum_iterations=JPEG_MAX_SEGMENTS,
        parallel_iterations=1,
    )
    # Within pixels, 0xFF is followed by 0, so the end marker can't occur there by chance. Data may
    # follow the end marker: some cameras append metadata.
    return tf.cond(
        fits & (frames == 1) & (head[0] == 0xFF) & (head[1] == JPEG_SOS),
        lambda: _contains(tf.strings.substr(data, position, length), JPEG_EOI),
        lambda: False,
    )


def _is_fitting_frame(head: tf.Tensor) -> tf.Tensor:
    """Whether a frame header (marker, length, precision, height, width, components) is valid."""
    height, width = head[5] * 256 + head[6], head[7] * 256 + head[8]
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    known = (head[9] == 1) | (head[9] == 3)  # 4 components: CMYK
    return (head[4] == 8) & known & (pixels >= 1) & (pixels <= MAX_PIXELS)


def _contains(data: tf.Tensor, part: bytes) -> tf.Tensor:
    # Not by a regular expression: RE2 matches text, not bytes.
    pieces = tf.strings.split(data[None], part, maxsplit=1)
    return tf.size(pieces.flat_values) == 2
