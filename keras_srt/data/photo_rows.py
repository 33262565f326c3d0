"""Rows of folders and of Hugging Face datasets, as images of one size and labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from keras_srt.core.errors import InvalidSettings, invalid_setting
from keras_srt.core.graph_checks import IMAGES, LABELS
from keras_srt.core.images import BadImage
from keras_srt.core.tensorflow import tf
from keras_srt.data.image_lists import list_classes, list_tree
from keras_srt.data.photo_decoder import PhotoDecoder, read_error_reason

# Gray and RGB, as `PhotoDecoder`.
CHANNELS = (1, 3)


class PhotoRows(ABC):
    """Photos that are read by their numbers, decoded as `keras_srt.data.Folder` decodes them.

    Args:
        shape: Height, width and channels of the images.
        labeled: Whether rows have labels.
    """

    def __init__(self, shape: Sequence[int], labeled: bool) -> None:
        self._shape = tuple(shape)
        self._labeled = labeled
        self._decoder = PhotoDecoder(size=(shape[0], shape[1]), channels=shape[2])

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows."""

    @abstractmethod
    def read(self, rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the images of rows, uint8 [n, *shape], and their labels, int64 [n].

        Raises:
            InvalidSettings: A photo can't be read, or a label is missing.
        """

    def load(self, rows: tf.Tensor) -> Any:
        """Return the images of rows as a tensor, with labels if there are labels."""
        images, labels = tf.numpy_function(
            lambda numbers: self.read(numbers.tolist()), [rows], [tf.uint8, tf.int64]
        )
        images.set_shape([None, *self._shape])
        labels.set_shape([None])
        return (images, labels) if self._labeled else images


class FolderRows(PhotoRows):
    """The photos of a folder.

    Args:
        path: A folder of class folders, or any tree of images if not `labeled`.
        role: The name of the data in messages.
        labeled: Whether the class folders are the labels.
        shape: Height, width and channels to which photos are resized.
        num_classes: The number of class folders that there must be; None for any number.

    Raises:
        UserError: The folder has no class folders, or no images.
        InvalidSettings: The path or the shape is invalid, or the number of classes is another.
    """

    def __init__(
        self,
        path: Path,
        role: str,
        labeled: bool,
        shape: Sequence[int] | None,
        num_classes: int | None,
    ) -> None:
        if not path.is_dir():
            raise invalid_setting(role, f"{str(path)!r}, which is no folder", "a folder of images")
        if shape is None:
            raise invalid_setting(role, "a folder without an image size", "image_shape=(96, 96, 3)")
        super().__init__(_checked_shape(shape, role), labeled)
        if not labeled:
            self._files, self._ids = list_tree(path, role), None
            return
        listing = list_classes(path, role)
        classes = {name: number for number, name in enumerate(listing.classes)}
        if num_classes not in (None, len(classes)):
            raise invalid_setting(
                role,
                f"the class folders {', '.join(classes)} in {path} for {num_classes} classes",
                "a folder with images for each class, because the folders give the class ids; or "
                "batches (images, labels)",
            )
        self._files = listing.files
        self._ids = np.int64([classes[label] for label in listing.labels])

    @override
    def __len__(self) -> int:
        return len(self._files)

    @override
    def read(self, rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
        images = np.stack([self._decoded(self._files[row]) for row in rows])
        return images, np.int64(rows) if self._ids is None else self._ids[rows]

    def _decoded(self, path: Path) -> np.ndarray:
        try:
            return self._decoder.read(path)
        except (BadImage, OSError) as error:
            reason = read_error_reason(error)
            raise InvalidSettings(
                [f"{IMAGES} {path}, which {reason}; allowed: readable photos; remove the file"]
            ) from error


class HuggingFaceRows(PhotoRows):
    """The rows of a Hugging Face `datasets.Dataset`.

    Args:
        data: The dataset.
        role: The name of the data in messages.
        labeled: Whether its class ids are read.
        shape: Height, width and channels to which images are resized; None for those of the
            first image.

    Raises:
        InvalidSettings: The data is no dataset with one image column, and one of labels.
    """

    def __init__(self, data: Any, role: str, labeled: bool, shape: Sequence[int] | None) -> None:
        if isinstance(data, Mapping):
            raise invalid_setting(
                role, "all splits of a dataset", f"one of them: {', '.join(data)}"
            )
        if not hasattr(data, "__getitem__") or not len(data):
            raise invalid_setting(
                role, "a streamed or empty dataset", "a datasets.Dataset with rows"
            )
        self._data = data
        self._image = _column(data, role, "Image")
        self._label = _column(data, role, "ClassLabel") if labeled else None
        self._fixed = shape is not None
        if shape is None:
            first = data[0][self._image]
            if first is None:
                raise invalid_setting(role, "no image in row 0", "an image in each row")
            shape = (first.height, first.width, 1 if first.mode[0] in "1LI" else 3)
        super().__init__(_checked_shape(shape, role), labeled)

    @override
    def __len__(self) -> int:
        return len(self._data)

    @override
    def read(self, rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
        columns = self._data[rows]
        images = [
            self._converted(image, row)
            for image, row in zip(columns[self._image], rows, strict=True)
        ]
        labels = rows if self._label is None else columns[self._label]
        for label, row in zip(labels, rows, strict=True):
            if label is None:
                raise InvalidSettings(
                    [f"{LABELS} none in row {row}; allowed: a class id in each row"]
                )
        return np.stack(images), np.int64(labels)

    def _converted(self, image: Any, row: int) -> np.ndarray:
        if image is None:
            raise InvalidSettings([f"{IMAGES} none in row {row}; allowed: an image in each row"])
        height, width, _ = self._shape
        if not self._fixed and (image.height, image.width) != (height, width):
            raise InvalidSettings(
                [
                    f"{IMAGES} {height}x{width} and {image.height}x{image.width} pixels; "
                    "allowed: one size, or image_shape=(height, width, channels)"
                ]
            )
        try:
            return self._decoder.convert(image)
        except BadImage as error:
            raise InvalidSettings(
                [f"{IMAGES} one in row {row} that {error}; allowed: gray and color images"]
            ) from error


def _checked_shape(shape: Sequence[int], role: str) -> tuple[int, ...]:
    numbers = tuple(shape)
    if len(numbers) != 3 or min(numbers[:2]) < 1 or numbers[2] not in CHANNELS:
        raise invalid_setting(
            role,
            f"image_shape={numbers}",
            "(height, width, channels) with 1 or 3 channels; batches (images, labels) for others",
        )
    return numbers


def _column(data: Any, role: str, kind: str) -> str:
    """Return the name of the one column with a kind of feature."""
    found = [name for name, feature in data.features.items() if type(feature).__name__ == kind]
    if len(found) != 1:
        listed = ", ".join(f"{name} ({type(f).__name__})" for name, f in data.features.items())
        raise invalid_setting(
            role, f"the columns {listed}", f"one {kind} column; use cast_column or select_columns"
        )
    return found[0]
