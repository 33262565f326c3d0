"""A dataset of NumPy arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator
from typing_extensions import override

from keras_srt.core.class_ids import check_class_ids
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import component
from keras_srt.data.source import Dataset, DatasetInfo, Images, InMemoryDataset, Source


def _as_uint8_images(images: Any) -> np.ndarray:
    array = np.asarray(images)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.dtype != np.uint8:
        raise ValueError("a uint8 array [n, height, width, channels], values 0 to 255")
    return array


ImageArray = Annotated[np.ndarray, BeforeValidator(_as_uint8_images)]


def _as_labels(labels: Any) -> np.ndarray:
    """Labels as int32; their range is checked with the class names."""
    values = np.asarray(labels)
    return np.int32(values) if values.dtype.kind in "iu" else check_class_ids(values)


LabelArray = Annotated[np.ndarray, BeforeValidator(_as_labels)]


@component
class Arrays(Source):
    """Images from NumPy arrays; available in Python only, not in JSON configs.

    Args:
        train_images: uint8 [n, height, width, channels] or [n, height, width].
        train_labels: Class ids [n]; labels of images that the split leaves unlabeled are ignored.
        test_images: uint8, same layout as `train_images`.
        test_labels: Class ids.
        class_names: The class names in the order of their ids.

    Example:
        >>> import numpy as np
        >>> images, labels = np.zeros((4, 8, 8), np.uint8), [0, 1, 0, 1]
        >>> source = Arrays(train_images=images, train_labels=labels, test_images=images,
        ...                 test_labels=labels, class_names=("no", "yes"))
        >>> source.open().info.input_shape
        (8, 8, 1)
    """

    name: ClassVar[str] = "arrays"
    is_private: ClassVar[bool] = True

    train_images: ImageArray
    train_labels: LabelArray
    test_images: ImageArray
    test_labels: LabelArray
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        problems = []
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            if labels.shape != (len(images),):
                problems.append(
                    f"{part}_labels: got shape {labels.shape}; allowed: one class id for each "
                    f"of the {len(images)} images"
                )
            elif len(labels) and not 0 <= labels.min() <= labels.max() < len(self.class_names):
                problems.append(
                    f"{part}_labels: got {labels.min()} to {labels.max()}; allowed: 0 to "
                    f"{len(self.class_names) - 1}, because there are {len(self.class_names)} "
                    "class_names"
                )
        if problems:
            raise InvalidSettings(problems)

    @override
    def open(self, data_dir: Path | None = None) -> Dataset:
        info = DatasetInfo(
            title="arrays",
            input_shape=self.train_images.shape[1:],
            class_names=self.class_names,
            num_train=len(self.train_images),
            num_test=len(self.test_images),
        )
        return InMemoryDataset(self.name, info, self._load)

    def _load(self) -> tuple[Images, Images]:
        return (
            Images(self.train_images, self.train_labels),
            Images(self.test_images, self.test_labels),
        )
