"""What a training part is that is read as it is needed."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from keras_srt.core.tensorflow import tf


class Records(ABC):
    """A training part in shards; record i is the i-th one, shard after shard.

    Attributes:
        lengths: records of each shard.
        image_shape: height, width, channels.
        known_labels: int32, of all records, -1 for none, where nothing need be read for that;
            else None.
    """

    lengths: tuple[int, ...]
    image_shape: tuple[int, int, int]
    known_labels: np.ndarray | None = None

    @abstractmethod
    def read(self, shard: tf.Tensor, first: tf.Tensor) -> tf.data.Dataset:
        """The records of a shard from one on, undecoded; both are int64 scalars."""

    @abstractmethod
    def image(self, record: tf.Tensor) -> tf.Tensor:
        """The image of a record, uint8; its label stays undecoded."""

    @abstractmethod
    def label(self, record: tf.Tensor) -> tf.Tensor:
        """The label of a record, int32; its image stays undecoded."""
