"""Random augmentation of training images, as a pure function of a seed."""

from __future__ import annotations

from typing import NamedTuple

from keras_srt.config.schema import AugmentationSettings
from keras_srt.core.tensorflow import tf

# Folded into the seed for the draws of color and cutout.
_COLOR, _CUTOUT = 1, 2


def augment(
    images: tf.Tensor,
    augmentation: AugmentationSettings,
    seed: tf.Tensor,
    rows: tf.Tensor | None = None,
    total: int | None = None,
) -> tf.Tensor:
    """Augment each image at random.

    Args:
        images: uint8 [batch, height, width, channels].
        augmentation: The augmentation.
        seed: int32 [2].
        rows: int64 [batch], the rows of the images in the global batch; None if `images` is the
            global batch.
        total: The number of images in the global batch; required with `rows`.

    Returns:
        Images of the same shape and dtype.
    """
    draws = _Draws(images.shape[0] if total is None else total, rows)
    seeds = tf.random.experimental.stateless_split(seed, 3)
    if augmentation.pad:
        images = _crop(images, augmentation, seeds, draws)
    if augmentation.flip:
        flipped = draws.uniform(seeds[2], [1, 1, 1]) < 0.5
        images = tf.where(flipped, images[:, :, ::-1], images)
    if augmentation.color:
        images = _change_color(images, augmentation.color, _fold(seed, _COLOR), draws)
    if augmentation.cutout:
        images = _cut_out(images, augmentation.cutout, _fold(seed, _CUTOUT), draws)
    return images


class _Draws(NamedTuple):
    """Random numbers for the global batch, so that they don't depend on the replicas.

    Attributes:
        images: The number of images in the global batch.
        rows: int64 [batch], the rows of this replica; None for all.
    """

    images: int
    rows: tf.Tensor | None

    def uniform(
        self, seed: tf.Tensor, shape: list[int], low: float = 0.0, high: float = 1.0
    ) -> tf.Tensor:
        """Draw float32 [batch, *shape]."""
        return self._own(tf.random.stateless_uniform([self.images, *shape], seed, low, high))

    def whole(self, seed: tf.Tensor, high: int) -> tf.Tensor:
        """Draw int32 [batch, 1] from 0 to high - 1."""
        drawn = tf.random.stateless_uniform([self.images, 1], seed, 0, high, dtype=tf.int32)
        return self._own(drawn)

    def _own(self, drawn: tf.Tensor) -> tf.Tensor:
        return drawn if self.rows is None else tf.gather(drawn, self.rows)


def _fold(seed: tf.Tensor, number: int) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(seed, number)


def _crop(
    images: tf.Tensor, augmentation: AugmentationSettings, seeds: tf.Tensor, draws: _Draws
) -> tf.Tensor:
    pad, (height, width) = augmentation.pad, images.shape[1:3]
    padded = tf.pad(
        images,
        [[0, 0], [pad, pad], [pad, pad], [0, 0]],
        "REFLECT" if augmentation.reflect else "CONSTANT",
    )

    def offsets(seed: tf.Tensor, length: int) -> tf.Tensor:
        return draws.whole(seed, 2 * pad + 1) + tf.range(length)[None]

    across = tf.gather(padded, offsets(seeds[0], height), axis=1, batch_dims=1)
    return tf.gather(across, offsets(seeds[1], width), axis=2, batch_dims=1)


def _change_color(images: tf.Tensor, strength: float, seed: tf.Tensor, draws: _Draws) -> tf.Tensor:
    brightness, contrast = (
        draws.uniform(one, [1, 1, 1], 1 - strength, 1 + strength)
        for one in tf.unstack(tf.random.experimental.stateless_split(seed, 2), num=2)
    )
    pixels = tf.cast(images, tf.float32)
    mean = tf.reduce_mean(pixels, axis=[1, 2, 3], keepdims=True)
    changed = brightness * (contrast * (pixels - mean) + mean)
    return tf.cast(tf.round(tf.clip_by_value(changed, 0.0, 255.0)), images.dtype)


def _cut_out(images: tf.Tensor, side: int, seed: tf.Tensor, draws: _Draws) -> tf.Tensor:
    def inside(axis_seed: tf.Tensor, length: int) -> tf.Tensor:
        # The square may begin or end outside of the image.
        first = draws.whole(axis_seed, length) - side // 2
        position = tf.range(length)[None]
        return (position >= first) & (position < first + side)

    seeds = tf.random.experimental.stateless_split(seed, 2)
    rows, columns = inside(seeds[0], images.shape[1]), inside(seeds[1], images.shape[2])
    square = (rows[:, :, None] & columns[:, None, :])[..., None]
    mean = tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2], keepdims=True)
    return tf.where(square, tf.cast(tf.round(mean), images.dtype), images)
