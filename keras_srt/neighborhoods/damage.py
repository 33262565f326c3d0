"""Damage: lost pixels, lost rows, a faded color channel, or faded colors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import field
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from typing_extensions import override

from keras_srt.core import validation
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.core.validation import FloatOrFraction
from keras_srt.neighborhoods import draws
from keras_srt.neighborhoods.base import Neighborhood, fraction_of_bound
from keras_srt.neighborhoods.candidate_search import RandomSearch, SingleDraw
from keras_srt.neighborhoods.draws import Seed
from keras_srt.neighborhoods.solver import Scale
from keras_srt.neighborhoods.sparse import largest

DamageKind = Literal["pixels", "rows", "channel", "gray"]
_ROUNDING = 1e-6
# Luma of ITU-R BT.601.
_LUMA = (0.299, 0.587, 0.114)


@component
class Damage(Neighborhood):
    """T(x;m,g) = (1-g)·(1-m)·x + g·luma((1-m)·x), with m and g in [0, 1] for each pixel.

    m, one value for each channel, loses a pixel (1) or fades a channel; g fades the colors. The
    distance is the lost share of the image: the mean of max_c m_c + g over the pixels. A random
    draw has one kind of damage, and from half of the largest share up to it: that share of the
    pixels is lost, or of the rows, or one channel or all colors fade by it.
    Source: patent CN111401445A, [0095]-[0097]: faults of transmission and changes of color.

    Args:
        share: Largest distance, from 0 to 1.
        kinds: The kinds of damage to draw from: "pixels", "rows", "channel" and "gray". Images with
            one channel have pixels and rows only.
        num_samples: Random draws for each image; 1 is plain damage without a search.

    Example:
        >>> import tensorflow as tf
        >>> row = tf.reshape([0.5, 0.6, 0.7], [1, 1, 1, 3])
        >>> faded = tf.reshape([0.0, 0.0, 0.5, 0.0], [1, 1, 1, 4])
        >>> tf.squeeze(Damage(0.5).apply(row, faded)).numpy()
        array([0.5 , 0.6 , 0.35], dtype=float32)
    """

    name: ClassVar[str] = "damage"
    kind: ClassVar[str] = "pixel"

    share: Annotated[FloatOrFraction, validation.real(0, 1)] = field(kw_only=False)
    kinds: Annotated[tuple[DamageKind, ...], Field(min_length=1)] = (
        "pixels",
        "rows",
        "channel",
        "gray",
    )
    num_samples: Annotated[int, validation.whole(1)] = 10

    @property
    @override
    def solver(self) -> RandomSearch | SingleDraw:
        return RandomSearch(self, self.num_samples) if self.num_samples > 1 else SingleDraw(self)

    @override
    def with_max_steps(self, max_steps: int) -> Damage:
        """Return the set with fewer draws."""
        return dataclasses.replace(self, num_samples=min(self.num_samples, max_steps))

    @override
    def sample(self, images: tf.Tensor, seed: Seed, scale: Scale = 1.0) -> tf.Tensor:
        """Draw one kind of damage for each image: m and g, [batch, height, width, channels + 1]."""
        one, channels = [tf.shape(images)[0], 1, 1, 1], images.shape[-1]
        kind_seed, amount_seed, seed = draws.split(seed, 3)
        kinds = [kind for kind in self.kinds if channels == 3 or kind in ("pixels", "rows")]
        chosen = draws.uniform(one, kind_seed, high=float(len(kinds)))
        amount = self.share * scale * draws.uniform(one, amount_seed, low=0.5)
        parameters = self.identity(images)
        for number, kind in enumerate(kinds):
            here = (chosen >= number) & (chosen < number + 1)
            parameters = tf.where(here, _DRAWS[kind](images, seed, amount), parameters)
        return parameters

    @override
    def apply(self, images: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
        """Compute (1-g)·(1-m)·x + g·luma((1-m)·x)."""
        kept = tf.convert_to_tensor(images) * (1.0 - parameters[..., :-1])
        if kept.shape[-1] != 3:
            return kept
        gray = parameters[..., -1:]
        luma = tf.reduce_sum(kept * tf.constant(_LUMA), axis=-1, keepdims=True)
        return kept * (1.0 - gray) + gray * luma

    @override
    def identity(self, images: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(images)
        return tf.zeros(tf.concat([shape[:3], shape[3:] + 1], axis=0))

    @override
    def contains(self, parameters: tf.Tensor, scale: Scale = 1.0) -> tf.Tensor:
        inside = tf.reduce_all((parameters >= 0.0) & (parameters <= 1.0), axis=[1, 2, 3])
        lost = tf.reduce_max(parameters[..., :-1], axis=-1) + parameters[..., -1]
        return inside & (tf.reduce_mean(lost, axis=[1, 2]) <= self.share * scale + _ROUNDING)

    @override
    def relative_size(self, parameters: np.ndarray) -> np.ndarray:
        """Return the lost share of each image, divided by its limit: float64 [batch]."""
        values = np.asarray(parameters, np.float64)
        lost = values[..., :-1].max(axis=-1) + values[..., -1]
        inside = ((values >= 0) & (values <= 1)).all(axis=-1)
        share = np.where(inside, lost, np.inf).mean(axis=(1, 2))
        return fraction_of_bound(np.maximum(share - _ROUNDING, 0.0), self.share)

    @property
    @override
    def range(self) -> str:
        return f"lost share of the image <= {self.share:.6g} ({', '.join(self.kinds)})"


def _lost_pixels(images: tf.Tensor, seed: Seed, share: tf.Tensor) -> tf.Tensor:
    pixels = tf.concat([tf.shape(images)[:3], [1]], axis=0)
    return _without(images, draws.uniform(pixels, seed), share)


def _lost_rows(images: tf.Tensor, seed: Seed, share: tf.Tensor) -> tf.Tensor:
    rows = tf.concat([tf.shape(images)[:2], [1, 1]], axis=0)
    return _without(images, draws.uniform(rows, seed), share)


def _without(images: tf.Tensor, values: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Return m and g that lose the pixels or rows with the largest values."""
    count = share * tf.cast(tf.reduce_prod(tf.shape(values)[1:]), tf.float32)
    lost = tf.cast(largest(values, count[:, :, 0, 0]), tf.float32)
    return tf.concat([tf.repeat(lost, images.shape[-1], axis=-1), 0.0 * lost], axis=-1)


def _faded_channel(images: tf.Tensor, seed: Seed, share: tf.Tensor) -> tf.Tensor:
    count = images.shape[-1]
    drawn = draws.uniform([tf.shape(images)[0], 1, 1], seed, high=float(count))
    faded = share * tf.one_hot(tf.cast(drawn, tf.int32), count)
    return tf.concat([faded, 0.0 * share], axis=-1)


def _faded_colors(images: tf.Tensor, seed: Seed, share: tf.Tensor) -> tf.Tensor:
    return tf.concat([tf.repeat(0.0 * share, images.shape[-1], axis=-1), share], axis=-1)


_DRAWS: dict[DamageKind, Callable[[tf.Tensor, Seed, tf.Tensor], tf.Tensor]] = {
    "pixels": _lost_pixels,
    "rows": _lost_rows,
    "channel": _faded_channel,
    "gray": _faded_colors,
}
