"""Where images come from: what a source is, scikit-learn's digits, arrays."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import BeforeValidator

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import Component, component
from keras_srt.core.validation import whole
from keras_srt.data.records import Records

# The most that a training part may take there, in bytes.
_IN_MEMORY = 4 * 2**30


class Images(NamedTuple):
    """A set of labeled images.

    Attributes:
        images: uint8 [n, height, width, channels].
        labels: int32 [n], class ids from 0.
    """

    images: np.ndarray
    labels: np.ndarray


class DatasetInfo(NamedTuple):
    """What is known of a dataset without reading its images.

    Attributes:
        title: how results name it.
        input_shape: height, width, channels.
        class_names: in the order of their ids.
        num_train: images to train on.
        num_test: images held out for evaluation.
        num_labeled: images to train on that have a label; None for all.
        fingerprint: of the training images, where they may change between runs; or None.
    """

    title: str
    input_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    num_train: int
    num_test: int
    num_labeled: int | None = None
    fingerprint: str | None = None


class Source(Component):
    """A dataset with a training part and a test part.

    A subclass is a component with a `name` and the methods below; the two parts are read
    separately, so that training never touches the test part.
    """

    @abstractmethod
    def info(self, data_dir: Path | None) -> DatasetInfo:
        """Sizes and names; `data_dir` is where prepared datasets lie, or None."""

    @abstractmethod
    def load_train(self, data_dir: Path | None) -> Images:
        """The training part, all of it, in a fixed order; the label of an unlabeled image is -1."""

    @abstractmethod
    def load_test(self, data_dir: Path | None) -> Images:
        """The test part, all of it, in a fixed order."""

    def records(self, data_dir: Path | None) -> Records:
        """The training part as records to read when they are needed.

        Raises:
            InvalidSettings: this source has its images in memory anyway.
        """
        raise InvalidSettings(
            [
                f"data.shuffle_buffer: got a number with the dataset {self.name!r}, which lies in "
                "memory; allowed: null, or a dataset of TFDS, 'folder' or 'synthetic'"
            ]
        )

    def skipped(self) -> dict[str, str]:
        """Files that couldn't be read and were skipped so far: reasons by path."""
        return {}


def check_memory(num_bytes: int) -> None:
    """Checks that a training part is small enough to be held in memory.

    Raises:
        InvalidSettings: it isn't.
    """
    if num_bytes > _IN_MEMORY:
        raise InvalidSettings(
            [
                f"data.shuffle_buffer: got null with {num_bytes / 1e9:.3g} GB of images; "
                "allowed: a number of images, which are then read as they are needed"
            ]
        )


@component
class Digits(Source):
    """scikit-learn's 1,797 handwritten digits of 8×8 pixels, upsampled; no download.

    Args:
        size: height and width in pixels that the images are upsampled to (bilinear).

    Example:
        >>> Digits().info(None).num_test
        500
    """

    name: ClassVar[str] = "digits"

    size: Annotated[int, whole(8, 512)] = field(default=28, kw_only=False)

    def info(self, data_dir: Path | None) -> DatasetInfo:
        """1,297 training and 500 test images in ten classes."""
        shape = (self.size, self.size, 1)
        names = tuple(str(digit) for digit in range(10))
        return DatasetInfo("scikit-learn digits", shape, names, 1297, 500)

    def load_train(self, data_dir: Path | None) -> Images:
        """The images that are not in the test part."""
        return self._load()[0]

    def load_test(self, data_dir: Path | None) -> Images:
        """500 images, the same share of each class; fixed, as the dataset has no test part."""
        return self._load()[1]

    def _load(self) -> tuple[Images, Images]:
        from PIL import Image
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        size = (self.size, self.size)
        # Pixels are 0 … 16 there.
        small = np.uint8(np.round(digits.images * (255 / 16)))
        images = np.stack(
            [Image.fromarray(image).resize(size, Image.Resampling.BILINEAR) for image in small]
        )[..., None]
        labels = np.int32(digits.target)
        train, test = train_test_split(
            np.arange(len(labels)), test_size=500, random_state=0, stratify=labels
        )
        return Images(images[train], labels[train]), Images(images[test], labels[test])


def _as_uint8_images(images: Any) -> np.ndarray:
    array = np.asarray(images)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.dtype != np.uint8:
        raise ValueError("a uint8 array [n, height, width, channels], values 0 to 255")
    return array


ImageArray = Annotated[np.ndarray, BeforeValidator(_as_uint8_images)]
LabelArray = Annotated[np.ndarray, BeforeValidator(lambda labels: np.asarray(labels, np.int32))]


@component
class Arrays(Source):
    """Images given as arrays, from Python.

    Args:
        train_images: uint8 [n, height, width, channels] or [n, height, width].
        train_labels: class ids [n]; those of images drawn as unlabeled are not used.
        test_images: uint8, as `train_images`.
        test_labels: class ids.
        class_names: in the order of their ids.

    Example:
        >>> import numpy as np
        >>> images, labels = np.zeros((4, 8, 8), np.uint8), [0, 1, 0, 1]
        >>> source = Arrays(train_images=images, train_labels=labels, test_images=images,
        ...                 test_labels=labels, class_names=("no", "yes"))
        >>> source.info(None).input_shape
        (8, 8, 1)
    """

    name: ClassVar[str] = "arrays"

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
                    f"{len(self.class_names) - 1}, as there are {len(self.class_names)} class_names"
                )
        if problems:
            raise InvalidSettings(problems)

    def info(self, data_dir: Path | None) -> DatasetInfo:
        """The sizes of the arrays."""
        return DatasetInfo(
            title="arrays",
            input_shape=self.train_images.shape[1:],
            class_names=self.class_names,
            num_train=len(self.train_images),
            num_test=len(self.test_images),
        )

    def load_train(self, data_dir: Path | None) -> Images:
        """The training arrays."""
        return Images(self.train_images, self.train_labels)

    def load_test(self, data_dir: Path | None) -> Images:
        """The test arrays."""
        return Images(self.test_images, self.test_labels)
