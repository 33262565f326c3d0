"""The interface of training images that are read on demand."""

from __future__ import annotations

from abc import ABC, abstractmethod

from keras_srt.core.tensorflow import tf


class Records(ABC):
    """Training images in shards; record i is the i-th record, counted shard after shard.

    Attributes:
        lengths: The number of records of each shard.
        image_shape: Height, width, channels.
    """

    lengths: tuple[int, ...]
    image_shape: tuple[int, int, int]

    @abstractmethod
    def read(self, shard: tf.Tensor, first: tf.Tensor) -> tf.data.Dataset:
        """Read the records of a shard, still encoded, beginning with number `first`.

        Args:
            shard: int64 scalar, the number of the shard.
            first: int64 scalar, the number of records of the shard to skip.
        """

    @abstractmethod
    def image(self, record: tf.Tensor) -> tf.Tensor:
        """Decode the image of a record: uint8 [height, width, channels]."""

    @abstractmethod
    def label(self, record: tf.Tensor) -> tf.Tensor:
        """Decode the label of a record: int32 scalar."""
