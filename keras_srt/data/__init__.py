"""Data: where images come from, which are labeled, and how they are batched."""

from keras_srt.core.registry import Registry
from keras_srt.data.folder import Folder, Parts, hold_out
from keras_srt.data.parallel import on_all_cores
from keras_srt.data.pipeline import (
    ONE_REPLICA,
    Augmentation,
    BatchSizes,
    Replicas,
    batch_sizes,
    evaluation_batches,
    training_batches,
)
from keras_srt.data.ranges import Ranges
from keras_srt.data.reading import load_labels, load_records, ordered_batches, reading_errors
from keras_srt.data.records import Records
from keras_srt.data.sources import Arrays, DatasetInfo, Digits, Images, Source
from keras_srt.data.split import Sizes, Split, make_split, make_streamed_split, split_sizes
from keras_srt.data.stream import Streaming, streamed_batches
from keras_srt.data.synthetic import Synthetic
from keras_srt.data.tfds_sources import CIFAR10, MNIST, AnyTFDS

# `Arrays` is for Python only: a JSON config can't hold them.
DATASETS: Registry[Source] = Registry(
    "dataset",
    Digits,
    MNIST,
    CIFAR10,
    AnyTFDS,
    Folder,
    Synthetic,
)

__all__ = [
    "CIFAR10",
    "DATASETS",
    "MNIST",
    "ONE_REPLICA",
    "AnyTFDS",
    "Arrays",
    "Augmentation",
    "BatchSizes",
    "DatasetInfo",
    "Digits",
    "Folder",
    "Images",
    "Parts",
    "Ranges",
    "Records",
    "Replicas",
    "Sizes",
    "Source",
    "Split",
    "Streaming",
    "Synthetic",
    "batch_sizes",
    "evaluation_batches",
    "hold_out",
    "load_labels",
    "load_records",
    "make_split",
    "make_streamed_split",
    "on_all_cores",
    "ordered_batches",
    "reading_errors",
    "split_sizes",
    "streamed_batches",
    "training_batches",
]
