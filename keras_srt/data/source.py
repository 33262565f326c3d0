"""The dataset interface: `Source` holds settings, `Dataset` is an opened source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from typing_extensions import override

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import Component
from keras_srt.data.records import Records

# The largest training set that is loaded into memory, in bytes.
_MAX_IN_MEMORY = 4 * 2**30


class Images(NamedTuple):
    """Images with labels.

    Attributes:
        images: uint8 [n, height, width, channels].
        labels: int32 [n], class ids from 0; -1 for an unlabeled image.
    """

    images: np.ndarray
    labels: np.ndarray


class DatasetInfo(NamedTuple):
    """The description of a dataset.

    Attributes:
        title: Its name in reports.
        input_shape: Height, width, channels.
        class_names: The class names in the order of their ids.
        num_train: The number of training images.
        num_test: The number of test images.
        num_labeled: The number of training images that have a label; None if all have one.
        fingerprint: A digest of the training images if they can change between runs, else None.
    """

    title: str
    input_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    num_train: int
    num_test: int
    num_labeled: int | None = None
    fingerprint: str | None = None


class Dataset(ABC):
    """An opened dataset.

    Training images and test images are loaded separately: training never reads the test images.

    Attributes:
        info: The description of the dataset.
        known_labels: The labels of the training images if they are known without reading the
            images, int32 [n], -1 for an unlabeled image; else None.
    """

    info: DatasetInfo
    known_labels: np.ndarray | None = None

    @abstractmethod
    def load_train(self) -> Images:
        """Load all training images, in a fixed order.

        Raises:
            InvalidSettings: The images take more than 4 GiB.
            UserError: The images cannot be read.
        """

    @abstractmethod
    def load_test(self) -> Images:
        """Load all test images, in a fixed order.

        Raises:
            UserError: The images cannot be read.
        """

    @abstractmethod
    def records(self) -> Records:
        """Return the training images as records, which are read on demand.

        Raises:
            InvalidSettings: The dataset is always in memory.
        """

    def skipped(self) -> dict[str, str]:
        """Return the unreadable files that were skipped so far: path -> reason."""
        return {}


class Source(Component):
    """The settings of a dataset.

    Attributes:
        is_private: Whether the images are the user's own, which exported models must not contain.
    """

    is_private: ClassVar[bool] = False

    @abstractmethod
    def open(self, data_dir: Path | None = None) -> Dataset:
        """Open the dataset.

        Args:
            data_dir: The folder of prepared datasets, and the base of relative paths; None for
                the defaults.

        Returns:
            The opened dataset.

        Raises:
            UserError: The dataset is missing or unusable.
        """


class InMemoryDataset(Dataset):
    """A small dataset that is always in memory.

    Args:
        name: The name of its source, for messages.
        info: The description of the dataset.
        load: Returns the training images and the test images.
    """

    def __init__(
        self, name: str, info: DatasetInfo, load: Callable[[], tuple[Images, Images]]
    ) -> None:
        self.info = info
        self._name, self._load = name, load

    @override
    def load_train(self) -> Images:
        return self._load()[0]

    @override
    def load_test(self) -> Images:
        return self._load()[1]

    @override
    def records(self) -> Records:
        raise InvalidSettings(
            [
                f"data.shuffle_buffer: got a number with the dataset {self._name!r}, which is "
                "always in memory; allowed: null, or a dataset of TFDS, 'folder' or 'synthetic'"
            ]
        )


def check_memory(num_bytes: int) -> None:
    """Check that a training set is small enough to load into memory.

    Raises:
        InvalidSettings: It takes more than 4 GiB.
    """
    if num_bytes > _MAX_IN_MEMORY:
        raise InvalidSettings(
            [
                f"data.shuffle_buffer: got null with {num_bytes / 1e9:.3g} GB of images; "
                "allowed: a number of images, which are then read on demand"
            ]
        )
