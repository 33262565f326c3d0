"""A synthetic dataset of any size, generated on demand."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from typing_extensions import override

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.core.validation import whole
from keras_srt.data.records import Records
from keras_srt.data.source import Dataset, DatasetInfo, Images, Source, check_memory

_MAX_SHARDS = 10**6
# The pattern of a class: patches per side, amplitude around gray, amplitude of the noise.
_PATCHES, _CONTRAST, _NOISE = 4, 0.25, 0.2


class SyntheticRecords(Records):
    """Images generated from their index: the pattern of the class plus uniform noise.

    Args:
        lengths: The number of records of each shard.
        image_shape: Height, width, channels.
        num_classes: The number of classes.
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

    @override
    def read(self, shard: tf.Tensor, first: tf.Tensor) -> tf.data.Dataset:
        # A record is its index.
        starts = tf.constant(self._starts)
        return tf.data.Dataset.range(tf.gather(starts, shard) + first, tf.gather(starts, shard + 1))

    @override
    def image(self, record: tf.Tensor) -> tf.Tensor:
        pattern = tf.gather(tf.constant(self._patterns), self.label(record))
        size = self.image_shape[:2]
        smooth = tf.image.resize(pattern, size)
        noise = tf.random.stateless_uniform(
            self.image_shape, tf.stack([record, 1]), -_NOISE, _NOISE
        )
        return tf.cast(255 * (0.5 + _CONTRAST * smooth + noise), tf.uint8)

    @override
    def label(self, record: tf.Tensor) -> tf.Tensor:
        seed = tf.stack([record, 0])
        return tf.random.stateless_uniform([], seed, 0, self._num_classes, tf.int32)


@component
class Synthetic(Source):
    """Generated images, for runs at the scale of any dataset.

    Each image is a function of its index: the 4×4-patch pattern of its class plus noise. Nothing
    is stored, so a nominal 200 GB need no disk; set `data.shuffle_buffer` to keep them out of
    memory.

    Args:
        num_train: The number of training images.
        num_test: The number of test images.
        size: Height and width in pixels.
        channels: 1 or 3.
        num_classes: The number of classes.
        shard: The number of consecutive records in a shard.

    Example:
        >>> Synthetic(num_train=1_300_000, size=224).open().info.title
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
        least = -(-self.num_train // _MAX_SHARDS)
        if self.shard < least:
            raise InvalidSettings(
                [
                    f"shard: got {self.shard} with num_train = {self.num_train}; allowed: at least "
                    f"{least}, which makes {_MAX_SHARDS:,} shards"
                ]
            )

    @override
    def open(self, data_dir: Path | None = None) -> Dataset:
        return SyntheticDataset(self)


class SyntheticDataset(Dataset):
    """The images of a `Synthetic` source; the test images follow the training images.

    Args:
        settings: The source.
    """

    def __init__(self, settings: Synthetic) -> None:
        self._settings = settings
        self._shape = (settings.size, settings.size, settings.channels)
        self._bytes = settings.num_train * int(np.prod(self._shape))
        self.info = DatasetInfo(
            title=f"synthetic ({self._bytes / 1e9:.3g} GB)",
            input_shape=self._shape,
            class_names=tuple(str(number) for number in range(settings.num_classes)),
            num_train=settings.num_train,
            num_test=settings.num_test,
        )

    @override
    def records(self) -> Records:
        return self._records(self._settings.num_train)

    @override
    def load_train(self) -> Images:
        check_memory(self._bytes)
        return self._generate(0, self._settings.num_train)

    @override
    def load_test(self) -> Images:
        return self._generate(self._settings.num_train, self._settings.num_test)

    def _records(self, count: int) -> SyntheticRecords:
        shard = self._settings.shard
        full, rest = divmod(count, shard)
        lengths = (shard,) * full + ((rest,) if rest else ())
        return SyntheticRecords(lengths, self._shape, self._settings.num_classes)

    def _generate(self, first: int, count: int) -> Images:
        records = self._records(count)

        def generate(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return records.image(index), records.label(index)

        batches = tf.data.Dataset.range(first, first + count).map(generate).batch(1000)
        parts = list(batches.as_numpy_iterator())
        return Images(*(np.concatenate(part) for part in zip(*parts, strict=True)))
