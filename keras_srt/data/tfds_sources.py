"""Datasets of TensorFlow Datasets, in memory or shard by shard."""

from __future__ import annotations

import logging
import re
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.data.reading import reading_errors
from keras_srt.data.records import Records
from keras_srt.data.sources import DatasetInfo, Images, Source

_VERSION = re.compile(r"\d+\.\d+\.\d+")


def fixed_shape(name: str, shape: tuple[int | None, ...]) -> tuple[int, int, int]:
    """Checks that all images of a dataset have one size.

    Args:
        name: of the dataset, for the message.
        shape: height, width, channels, or None for what varies.

    Returns:
        The shape.

    Raises:
        UserError: something varies, or they are no images.

    Example:
        >>> fixed_shape("cifar10", (32, 32, 3))
        (32, 32, 3)
    """
    sizes = tuple(int(size) for size in shape if size is not None)
    if len(shape) != 3 or len(sizes) != 3:
        raise UserError(
            f"dataset {name!r}: got images of the shape {list(shape)}; allowed: one size for all "
            "of them; prepare it with images of one size (as TFDS' imagenet_resized)"
        )
    return sizes


class TFDSRecords(Records):
    """The split "train" of a prepared TFDS dataset.

    Args:
        name: of the source, for messages.
        builder: of the dataset, prepared.

    Raises:
        UserError: images have no fixed shape, the files are no TFRecords, or one is missing.
    """

    def __init__(self, name: str, builder: Any) -> None:
        import tensorflow_datasets as tfds

        features, split = builder.info.features, builder.info.splits["train"]
        self.image_shape = fixed_shape(name, features["image"].shape)
        form = getattr(builder.info.file_format, "value", "tfrecord")
        if form != "tfrecord":
            raise UserError(
                f"dataset {name!r}: got files in the format {form}; allowed: tfrecord, for "
                "data.shuffle_buffer; prepare the dataset anew, with TFDS' default format"
            )
        self._files = [str(path) for path in split.filepaths]
        self.lengths = tuple(split.shard_lengths)
        missing = [file for file in self._files if not tf.io.gfile.exists(file)]
        if missing:
            raise UserError(
                f"dataset {name!r}: {len(missing)} of its {len(self._files)} shards are missing, "
                f"such as {missing[0]}; copy them there, or prepare the dataset anew"
            )
        self._image, self._label = (
            tfds.decode.PartialDecoding({part: True}).extract_features(features)
            for part in ("image", "label")
        )

    def read(self, shard: tf.Tensor, first: tf.Tensor) -> tf.data.Dataset:
        """Serialized examples; what is skipped is read but not decoded."""
        return tf.data.TFRecordDataset(tf.gather(tf.constant(self._files), shard)).skip(first)

    def image(self, record: tf.Tensor) -> tf.Tensor:
        """Decodes PNG or JPEG."""
        image = self._image.deserialize_example(record)["image"]
        return tf.ensure_shape(image, self.image_shape)

    def label(self, record: tf.Tensor) -> tf.Tensor:
        """The class id."""
        return tf.cast(self._label.deserialize_example(record)["label"], tf.int32)


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

    # For datasets whose prepared files may lack the names and have numbers instead.
    known_class_names: ClassVar[tuple[str, ...] | None] = None

    @property
    @abstractmethod
    def tfds_name(self) -> str:
        """Its name in TFDS."""

    @property
    @abstractmethod
    def title(self) -> str:
        """How results name it."""

    def info(self, data_dir: Path | None) -> DatasetInfo:
        """As TFDS describes the prepared dataset."""
        builder = self._builder(data_dir)
        features = builder.info.features
        shape = fixed_shape(self.name, features["image"].shape)
        return DatasetInfo(
            title=f"{self.title} ({builder.info.full_name})",
            input_shape=shape,
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

    def records(self, data_dir: Path | None) -> Records:
        """The shards of the split "train"."""
        return TFDSRecords(self.name, self._builder(data_dir))

    def _load(self, data_dir: Path | None, split: str) -> Images:
        import tensorflow_datasets as tfds

        builder = self._builder(data_dir)
        read_config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
        dataset = builder.as_dataset(split=split, shuffle_files=False, read_config=read_config)
        count = builder.info.splits[split].num_examples
        images = np.empty((count, *builder.info.features["image"].shape), np.uint8)
        labels = np.empty(count, np.int32)
        filled = 0
        with reading_errors():
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
            # TFDS has other names for what it hasn't finished.
            if _VERSION.fullmatch(version.name) and (version / "dataset_info.json").is_file():
                return self._read_builder(version)
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

    def _read_builder(self, version: Path) -> Any:
        import tensorflow_datasets as tfds

        try:
            return tfds.builder_from_directory(version)
        except Exception as error:  # TFDS has several parsers, each with errors of its own
            reason = " ".join(str(error).split())[:160]
            raise UserError(
                f"dataset {self.name!r}: its description in {version} can't be read "
                f"({type(error).__name__}: {reason}); copy the dataset anew, or prepare it anew"
            ) from error


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

    dataset: str = field(kw_only=False)

    @property
    def tfds_name(self) -> str:
        """Its name in TFDS."""
        return self.dataset

    @property
    def title(self) -> str:
        """How results name it."""
        return self.dataset
