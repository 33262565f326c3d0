"""Where images come from: TFDS, scikit-learn's digits, arrays."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import BeforeValidator

from keras_srt.checks import InvalidSettings, UserError, whole
from keras_srt.components import component


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
    """

    title: str
    input_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    num_train: int
    num_test: int


class Source(ABC):
    """A dataset with a training part and a test part.

    A subclass is a component with a `name` and the methods below; the two parts are read
    separately, so that training never touches the test part.
    """

    name: ClassVar[str]

    @abstractmethod
    def info(self, data_dir: Path | None) -> DatasetInfo:
        """Sizes and names; `data_dir` is where prepared datasets lie, or None."""

    @abstractmethod
    def load_train(self, data_dir: Path | None) -> Images:
        """The training part, all of it, in a fixed order."""

    @abstractmethod
    def load_test(self, data_dir: Path | None) -> Images:
        """The test part, all of it, in a fixed order."""


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

    size: Annotated[int, whole(8, 512)] = 28

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


@contextmanager
def _few_quiet_retries() -> Iterator[None]:
    """TFDS retries ten times, minutes where there is no network, and urllib3 warns of each."""
    from tensorflow_datasets.core.download import downloader

    logger = logging.getLogger("urllib3.connectionpool")
    retries, level = downloader.MAX_RETRIES, logger.level
    downloader.MAX_RETRIES = 4
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        downloader.MAX_RETRIES = retries
        logger.setLevel(level)


class TFDSImages(Source):
    """An image classification dataset of TensorFlow Datasets, by its name there.

    Read from `data_dir` if it lies there prepared, else downloaded by TFDS.
    """

    tfds_name: ClassVar[str]
    title: ClassVar[str]
    # For datasets whose prepared files may lack the names and have numbers instead.
    known_class_names: ClassVar[tuple[str, ...] | None] = None

    def info(self, data_dir: Path | None) -> DatasetInfo:
        """As TFDS describes the prepared dataset."""
        builder = self._builder(data_dir)
        features = builder.info.features
        return DatasetInfo(
            title=f"{self.title} ({builder.info.full_name})",
            input_shape=tuple(features["image"].shape),
            class_names=self.known_class_names or tuple(features["label"].names),
            num_train=builder.info.splits["train"].num_examples,
            num_test=builder.info.splits["test"].num_examples,
        )

    def load_train(self, data_dir: Path | None) -> Images:
        """The split "train"."""
        return self._load(data_dir, "train")

    def load_test(self, data_dir: Path | None) -> Images:
        """The split "test"."""
        return self._load(data_dir, "test")

    def _load(self, data_dir: Path | None, split: str) -> Images:
        import tensorflow_datasets as tfds

        builder = self._builder(data_dir)
        read_config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
        dataset = builder.as_dataset(split=split, shuffle_files=False, read_config=read_config)
        count = builder.info.splits[split].num_examples
        images = np.empty((count, *builder.info.features["image"].shape), np.uint8)
        labels = np.empty(count, np.int32)
        filled = 0
        for batch in dataset.batch(1000).as_numpy_iterator():
            size = len(batch["label"])
            images[filled : filled + size] = batch["image"]
            labels[filled : filled + size] = batch["label"]
            filled += size
        if filled != count:
            raise UserError(
                f"dataset {self.name!r}: its files hold {filled} images of split {split!r}, "
                f"and {count} are promised; delete {builder.data_path} and prepare it anew"
            )
        return Images(images, labels)

    def _builder(self, data_dir: Path | None) -> Any:
        """The prepared dataset: found in `data_dir` or in TFDS' own folder, or downloaded."""
        import tensorflow_datasets as tfds

        where = Path(data_dir) if data_dir is not None else Path(tfds.core.constants.DATA_DIR)
        for version in sorted((where / self.tfds_name).glob("*.*.*"), reverse=True):
            if (version / "dataset_info.json").is_file():
                return tfds.builder_from_directory(version)
        try:
            builder = tfds.builder(self.tfds_name, data_dir=where)
            with _few_quiet_retries():
                builder.download_and_prepare()
        except Exception as error:  # whatever TFDS or the network raises ends here
            reason = " ".join(str(error).split())[:160]
            raise UserError(
                f"dataset {self.name!r}: not prepared in {where / self.tfds_name}, and the "
                f"download failed ({type(error).__name__}: {reason}); "
                f"either give --data-dir a folder in which tensorflow_datasets has prepared "
                f"{self.tfds_name!r}, or run again with a network connection"
            ) from error
        return builder


@component
class MNIST(TFDSImages):
    """60,000 + 10,000 handwritten digits of 28×28 pixels, through TFDS.

    Example:
        >>> MNIST().tfds_name
        'mnist'
    """

    name: ClassVar[str] = "mnist"
    tfds_name: ClassVar[str] = "mnist"
    title: ClassVar[str] = "MNIST"


@component
class CIFAR10(TFDSImages):
    """50,000 + 10,000 color photographs of 32×32 pixels in ten classes, through TFDS.

    Example:
        >>> CIFAR10().tfds_name
        'cifar10'
    """

    name: ClassVar[str] = "cifar10"
    tfds_name: ClassVar[str] = "cifar10"
    title: ClassVar[str] = "CIFAR-10"
    known_class_names: ClassVar[tuple[str, ...]] = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )


@component
class AnyTFDS(TFDSImages):
    """Any TFDS dataset with an `image` of fixed size, a `label`, and splits train and test.

    Args:
        dataset: its name in TFDS, such as "fashion_mnist".

    Example:
        >>> AnyTFDS(dataset="fashion_mnist").tfds_name
        'fashion_mnist'
    """

    name: ClassVar[str] = "tfds"

    dataset: str

    @property
    def tfds_name(self) -> str:
        """Its name in TFDS."""
        return self.dataset

    @property
    def title(self) -> str:
        """How results name it."""
        return self.dataset


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
