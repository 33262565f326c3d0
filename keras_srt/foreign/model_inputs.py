"""The inputs of a model: their shape, their range, and the conversion of images in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from keras_srt.core.tensorflow import tf
from keras_srt.foreign.model_options import ModelOptions
from keras_srt.foreign.opened_model import OpenedModel, Range

UNIT: Range = (0.0, 1.0)
ASSUMED = "is assumed: the model does not define its input range"
_CHANNELS = (1, 3)
# Random images on which the outputs of a model are examined, if there are no others.
_NUM_PROBES = 16


class InputConversion(NamedTuple):
    """How images in [0, 1] become the inputs of a model.

    Attributes:
        convert: Images, a float32 tensor -> inputs.
        lines: A line for each conversion.
        is_assumed: Whether the range is assumed.
    """

    convert: Callable[[tf.Tensor], tf.Tensor]
    lines: list[str]
    is_assumed: bool


def image_shape(opened: OpenedModel) -> tuple[int, int, int]:
    """Return (height, width, channels) of the images that a model takes.

    Raises:
        UserError: Its inputs are no images of a fixed size.
    """
    shape = opened.input_shape
    if shape is None or len(shape) != 3 or None in shape:
        raise opened.refused(
            f"takes inputs of shape {shape}; allowed: images of a fixed size, (height, width, "
            "channels) or (channels, height, width)"
        )
    first, second, third = (int(size or 0) for size in shape)
    if third in _CHANNELS:
        return first, second, third
    if first in _CHANNELS:
        return second, third, first
    raise opened.refused(f"takes inputs of shape {shape}; allowed: images with 1 or 3 channels")


def probes(shape: tuple[int, int, int]) -> np.ndarray:
    """Return random images of a shape, float32 [16, height, width, channels] in [0, 1]."""
    pixels = np.random.default_rng(0).integers(0, 256, (_NUM_PROBES, *shape))
    return np.float32(pixels / 255.0)


def convert_inputs(
    opened: OpenedModel, options: ModelOptions, shape: tuple[int, ...], assume_range: bool
) -> InputConversion:
    """Choose how images become inputs, by the model's structure or by what is declared."""
    is_first = is_channels_first(opened, shape)
    known, reason = opened.input_range, opened.range_reason
    if options.input_range is not None:
        known, reason = options.input_range, "declared"
    if known is None and not assume_range:
        raise opened.refused(
            "the model does not define whether it takes values from 0 to 1 or 0 to 255; set "
            "--input-range 0,1 or --input-range 0,255 (in Python, "
            "adapt_model(model, input_range=(0, 255)))"
        )
    low, high = known or UNIT
    lines = []
    if known is None:
        lines.append(f"inputs: [0, 1] {ASSUMED}")
    elif known != UNIT:
        lines.append(f"inputs: [0, 1] is scaled to [{low:g}, {high:g}] ({reason})")
    if is_first:
        lines.append("inputs: channels last -> channels first")
    dtype = tf.as_dtype(opened.dtype)

    def convert(images: tf.Tensor) -> tf.Tensor:
        if (low, high) != UNIT:
            images = low + (high - low) * images
        if is_first:
            images = tf.transpose(images, [0, 3, 1, 2])
        return tf.cast(tf.round(images) if dtype.is_integer else images, dtype)

    return InputConversion(convert, lines, known is None)


def is_channels_first(opened: OpenedModel, shape: tuple[int, ...]) -> bool:
    """Return whether a model takes images of a shape (height, width, channels) channels first.

    Raises:
        UserError: It takes images of neither order.
    """
    wanted = opened.input_shape
    height, width, channels = shape
    for given, is_first in ((shape, False), ((channels, height, width), True)):
        if wanted is None or (
            len(wanted) == 3
            and all(size in (None, got) for size, got in zip(wanted, given, strict=True))
        ):
            return is_first
    raise opened.refused(f"takes inputs of shape {wanted}; the images have shape {shape}")
