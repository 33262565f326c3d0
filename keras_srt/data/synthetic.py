"""A dataset made on the fly: as large as one likes, and learnable."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.core.validation import whole
from keras_srt.data.records import Records
from keras_srt.data.sources import DatasetInfo, Images, Source, check_memory

# The most shards, which are all listed.
_SHARDS = 10**6
# Each class is a pattern of so many patches across, and so far from gray; noise is on top.
_PATCHES, _CONTRAST, _NOISE = 4, 0.25, 0.2


class SyntheticRecords(Records):
    """Images as a function of their index alone: a pattern of the class, and noise.

    Args:
        lengths: records of each shard.
        image_shape: height, width, channels.
        num_classes: how many classes there are.
    """

    def __init__(
        self, lengths: tuple[int, ...], image_shape: tuple[int, int, int], num_classes: int
    ) -> None:
        self.lengths, self.image_shape = lengths, image_shape
        self._num_classes = num_classes
        self._starts = np.concatenate([[0], np.cumsum(lengths)])
        channels = image_shape[-1]
        signs = np.random.default_rng(0).integers(
            2, size=(num_classes, _PATCHES, _PATCHES, channels)
        )
        self._patterns = np.float32(2 * signs - 1)

    def read(self, shard: tf.Tensor, first: tf.Tensor) -> tf.data.Dataset:
        """Indices, which is all there is to a record."""
        starts = tf.constant(self._starts)
        return tf.data.Dataset.range(tf.gather(starts, shard) + first, tf.gather(starts, shard + 1))

    def image(self, record: tf.Tensor) -> tf.Tensor:
        """The pattern of the record's class, with uniform noise."""
        pattern = tf.gather(tf.constant(self._patterns), self.label(record))
        size = self.image_shape[:2]
        smooth = tf.image.resize(pattern, size)
        noise = tf.random.stateless_uniform(
            self.image_shape, tf.stack([record, 1]), -_NOISE, _NOISE
        )
        return tf.cast(255 * (0.5 + _CONTRAST * smooth + noise), tf.uint8)

    def label(self, record: tf.Tensor) -> tf.Tensor:
        """A class drawn from the index."""
        seed = tf.stack([record, 0])
        return tf.random.stateless_uniform([], seed, 0, self._num_classes, tf.int32)


@component
class Synthetic(Source):
    """Images that are made when they are read, for runs at the size of any dataset.

    Each image is a function of its index: a pattern of 4×4 patches that its class has, and
    noise. Nothing is stored, so that 200 GB in name need no disk; `data.shuffle_buffer`
    keeps them out of memory.

    Args:
        num_train: images to train on.
        num_test: images held out for evaluation.
        size: height and width in pixels.
        channels: 1 or 3.
        num_classes: how many classes there are.
        shard: records that are read in a row before another shard may follow.

    Example:
        >>> Synthetic(num_train=1_300_000, size=224).info(None).title
        'synthetic (196 GB)'
    """

    name: ClassVar[str] = "synthetic"

    num_train: Annotated[int, whole(1, 10**9)] = field(default=10_000, kw_only=False)
    num_test: Annotated[int, whole(1, 10**6)] = 1_000
    size: Annotated[int, whole(4, 1024)] = 32
    channels: Annotated[int, whole(1, 3)] = 3
    num_classes: Annotated[int, whole(2, 10_000)] = 10
    shard: Annotated[int, whole(1)] = 10_000

    def __post_init__(self) -> None:
        least = -(-self.num_train // _SHARDS)
        if self.shard < least:
            raise InvalidSettings(
                [
                    f"shard: got {self.shard} with num_train = {self.num_train}; allowed: at least "
                    f"{least}, that is {_SHARDS:,} shards"
                ]
            )

    @property
    def _bytes(self) -> int:
        return self.num_train * self.size**2 * self.channels

    def info(self, data_dir: Path | None) -> DatasetInfo:
        """The settings."""
        return DatasetInfo(
            title=f"synthetic ({self._bytes / 1e9:.3g} GB)",
            input_shape=(self.size, self.size, self.channels),
            class_names=tuple(str(number) for number in range(self.num_classes)),
            num_train=self.num_train,
            num_test=self.num_test,
        )

    def records(self, data_dir: Path | None) -> Records:
        """The training part; its last shard may be shorter."""
        return self._records(self.num_train)

    def load_train(self, data_dir: Path | None) -> Images:
        """The training part, if it is small enough.

        Raises:
            InvalidSettings: it is larger than 4 GiB.
        """
        check_memory(self._bytes)
        return self._made(0, self.num_train)

    def load_test(self, data_dir: Path | None) -> Images:
        """The images after the training part."""
        return self._made(self.num_train, self.num_test)

    def _records(self, count: int) -> SyntheticRecords:
        full, rest = divmod(count, self.shard)
        lengths = (self.shard,) * full + ((rest,) if rest else ())
        return SyntheticRecords(lengths, (self.size, self.size, self.channels), self.num_classes)

    def _made(self, first: int, count: int) -> Images:
        records = self._records(count)

        def both(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return records.image(index), records.label(index)

        made = tf.data.Dataset.range(first, first + count).map(both).batch(1000)
        parts = list(made.as_numpy_iterator())
        return Images(*(np.concatenate(part) for part in zip(*parts, strict=True)))
