"""Datasets of TensorFlow Datasets (TFDS), in memory or shard by shard."""

from __future__ import annotations

import importlib
import logging
import re
import types
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from keras_srt.core.errors import UserError
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import load_tensorflow, tf
from keras_srt.data.record_reader import translate_read_errors
from keras_srt.data.records import Records
from keras_srt.data.source import Dataset, DatasetInfo, Images, Source

_VERSION = re.compile(r"\d+\.\d+\.\d+")


def _import_tfds() -> types.ModuleType:
    """Import TFDS after TensorFlow, which TFDS would otherwise import with its start-up noise."""
    load_tensorflow()
    return importlib.import_module("tensorflow_datasets")


def fixed_shape(name: str, shape: tuple[int | None, ...]) -> tuple[int, int, int]:
    """Check that all images of a dataset have the same size.

    Args:
        name: The name of the dataset, for the message.
        shape: Height, width, channels; None for a dimension that varies.

    Returns:
        The shape.

    Raises:
        UserError: A dimension varies, or the shape is not that of an image.

    Example:
        >>> fixed_shape("cifar10", (32, 32, 3))
        (32, 32, 3)
    """
    sizes = tuple(int(size) for size in shape if size is not None)
    if len(shape) != 3 or len(sizes) != 3:
        raise UserError(
            f"dataset {name!r}: got images of the shape {list(shape)}; allowed: images of equal "
            "size; prepare a dataset with a fixed image size (such as TFDS' imagenet_resized)"
        )
    return sizes


class TFDSRecords(Records):
    """The split "train" of a prepared TFDS dataset.

    Args:
        name: The name of the source, for messages.
        builder: The builder of the prepared dataset.

    Raises:
        UserError: The image size varies, the files are not TFRecords, or a file is missing.
    """

    def __init__(self, name: str, builder: Any) -> None:
        features, split = builder.info.features, builder.info.splits["train"]
        self.image_shape = fixed_shape(name, features["image"].shape)
        file_format = getattr(builder.info.file_format, "value", "tfrecord")
        if file_format != "tfrecord":
            raise UserError(
                f"dataset {name!r}: got files in the format {file_format}; allowed: tfrecord, for "
                "data.shuffle_buffer; prepare the dataset again, with TFDS' default format"
            )
        self._files = [str(path) for path in split.filepaths]
        self.lengths = tuple(split.shard_lengths)
        missing = [file for file in self._files if not tf.io.gfile.exists(file)]
        if missing:
            raise UserError(
                f"dataset {name!r}: {len(missing)} of its {len(self._files)} shards are missing, "
                f"such as {missing[0]}; copy them there, or prepare the dataset again"
            )
        self._image, self._label = (
            _import_tfds().decode.PartialDecoding({part: True}).extract_features(features)
            for part in ("image", "label")
        )

    @override
    def read(self, shard: tf.Tensor, first: tf.Tensor) -> tf.data.Dataset:
        return tf.data.TFRecordDataset(tf.gather(tf.constant(self._files), shard)).skip(first)

    @override
    def image(self, record: tf.Tensor) -> tf.Tensor:
        image = self._image.deserialize_example(record)["image"]
        return tf.ensure_shape(image, self.image_shape)

    @override
    def label(self, record: tf.Tensor) -> tf.Tensor:
        return tf.cast(self._label.deserialize_example(record)["label"], tf.int32)


class TFDSDataset(Dataset):
    """A prepared dataset of TFDS.

    Args:
        name: The name of the source, for messages.
        title: The name of the dataset in reports.
        builder: The builder of the prepared dataset.
        class_names: The class names if the builder's description may lack them, else None.
    """

    def __init__(
        self, name: str, title: str, builder: Any, class_names: tuple[str, ...] | None
    ) -> None:
        self._name, self._builder = name, builder
        features, splits = builder.info.features, builder.info.splits
        self.info = DatasetInfo(
            title=f"{title} ({builder.info.full_name})",
            input_shape=fixed_shape(name, features["image"].shape),
            class_names=class_names or tuple(features["label"].names),
            num_train=splits["train"].num_examples,
            num_test=splits["test"].num_examples,
        )

    @override
    def load_train(self) -> Images:
        return self._load("train")

    @override
    def load_test(self) -> Images:
        return self._load("test")

    @override
    def records(self) -> Records:
        return TFDSRecords(self._name, self._builder)

    def _load(self, split: str) -> Images:
        builder = self._builder
        read_config = _import_tfds().ReadConfig(interleave_cycle_length=1, try_autocache=False)
        dataset = builder.as_dataset(split=split, shuffle_files=False, read_config=read_config)
        count = builder.info.splits[split].num_examples
        images = np.empty((count, *self.info.input_shape), np.uint8)
        labels = np.empty(count, np.int32)
        filled = 0
        with translate_read_errors():
            for batch in dataset.batch(1000).as_numpy_iterator():
                size = len(batch["label"])
                images[filled : filled + size] = batch["image"]
                labels[filled : filled + size] = batch["label"]
                filled += size
        if filled != count:
            raise UserError(
                f"dataset {self._name!r}: its files hold {filled} images of split {split!r}, but "
                f"its description says {count}; delete {builder.data_path} and prepare it again"
            )
        return Images(images, labels)


class TFDSSource(Source):
    """An image classification dataset of TFDS.

    It is read from `data_dir` if it is prepared there, else TFDS downloads it.
    """

    # For datasets whose prepared files may lack the class names.
    known_class_names: ClassVar[tuple[str, ...] | None] = None

    @property
    @abstractmethod
    def tfds_name(self) -> str:
        """The name of the dataset in TFDS."""

    @property
    @abstractmethod
    def title(self) -> str:
        """The name of the dataset in reports."""

    @override
    def open(self, data_dir: Path | None = None) -> Dataset:
        builder = self._prepared_builder(data_dir)
        return TFDSDataset(self.name, self.title, builder, self.known_class_names)

    def _prepared_builder(self, data_dir: Path | None) -> Any:
        """Find the dataset in `data_dir` or in TFDS' own folder, or download it."""
        tfds = _import_tfds()
        root = Path(data_dir) if data_dir is not None else Path(tfds.core.constants.DATA_DIR)
        for version in sorted((root / self.tfds_name).glob("*.*.*"), reverse=True):
            # TFDS gives unfinished datasets other folder names.
            if _VERSION.fullmatch(version.name) and (version / "dataset_info.json").is_file():
                return self._read_builder(version)
        try:
            builder = tfds.builder(self.tfds_name, data_dir=root)
            with _few_quiet_retries():
                builder.download_and_prepare()
        except Exception as error:  # TFDS and network libraries raise many types
            reason = " ".join(str(error).split())[:160]
            raise UserError(
                f"dataset {self.name!r}: not prepared in {root / self.tfds_name}, and the "
                f"download failed ({type(error).__name__}: {reason}); "
                f"either give --data-dir a folder in which tensorflow_datasets has prepared "
                f"{self.tfds_name!r}, or run again with a network connection"
            ) from error
        return builder

    def _read_builder(self, version: Path) -> Any:
        try:
            return _import_tfds().builder_from_directory(version)
        except Exception as error:  # TFDS has several parsers, each with its own errors
            reason = " ".join(str(error).split())[:160]
            raise UserError(
                f"dataset {self.name!r}: its description in {version} can't be read "
                f"({type(error).__name__}: {reason}); copy or prepare the dataset again"
            ) from error


@contextmanager
def _few_quiet_retries() -> Iterator[None]:
    """Limit TFDS to 4 download retries instead of 10, and silence urllib3's retry warnings."""
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


@component
class MNIST(TFDSSource):
    """60,000 + 10,000 handwritten digits of 28×28 pixels, from TFDS.

    Example:
        >>> MNIST().tfds_name
        'mnist'
    """

    name: ClassVar[str] = "mnist"
    tfds_name: ClassVar[str] = "mnist"
    title: ClassVar[str] = "MNIST"


@component
class CIFAR10(TFDSSource):
    """50,000 + 10,000 color photographs of 32×32 pixels in ten classes, from TFDS.

    Example:
        >>> CIFAR10().tfds_name
        'cifar10'
    """

    name: ClassVar[str] = "cifar10"
    tfds_name: ClassVar[str] = "cifar10"
    title: ClassVar[str] = "CIFAR-10"
    known_class_names: ClassVar[tuple[str, ...]] = (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )


@component
class AnyTFDS(TFDSSource):
    """Any TFDS dataset with an `image` of fixed size, a `label`, and the splits train and test.

    Args:
        dataset: The name of the dataset in TFDS, such as "fashion_mnist".

    Example:
        >>> AnyTFDS(dataset="fashion_mnist").tfds_name
        'fashion_mnist'
    """

    name: ClassVar[str] = "tfds"

    dataset: str = field(kw_only=False)

    @property
    @override
    def tfds_name(self) -> str:
        return self.dataset

    @property
    @override
    def title(self) -> str:
        return self.dataset
