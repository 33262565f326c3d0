"""Datasets, labeled/unlabeled splits, and batches."""

from keras_srt.data.arrays import Arrays
from keras_srt.data.batch_sources import as_batches
from keras_srt.data.batches import (
    ONE_REPLICA,
    BatchSizes,
    Replicas,
    batch_sizes,
    evaluation_batches,
    training_batches,
)
from keras_srt.data.digits import Digits
from keras_srt.data.folder import Folder, FolderFiles, hold_out
from keras_srt.data.index_ranges import IndexRanges
from keras_srt.data.keras_datasets import first_images, pair, to_unit_range
from keras_srt.data.parallel import parallel_map
from keras_srt.data.record_reader import (
    load_labels,
    load_records,
    ordered_batches,
    translate_read_errors,
)
from keras_srt.data.records import Records
from keras_srt.data.registry import DATASETS
from keras_srt.data.source import Dataset, DatasetInfo, Images, Source
from keras_srt.data.split import (
    VALIDATION_PER_CLASS,
    Sizes,
    Split,
    make_split,
    make_streamed_split,
    split_sizes,
)
from keras_srt.data.streaming import Streaming, streamed_batches
from keras_srt.data.synthetic import Synthetic
from keras_srt.data.tfds import CIFAR10, MNIST, AnyTFDS

__all__ = [
    "CIFAR10",
    "DATASETS",
    "MNIST",
    "ONE_REPLICA",
    "VALIDATION_PER_CLASS",
    "AnyTFDS",
    "Arrays",
    "BatchSizes",
    "Dataset",
    "DatasetInfo",
    "Digits",
    "Folder",
    "FolderFiles",
    "Images",
    "IndexRanges",
    "Records",
    "Replicas",
    "Sizes",
    "Source",
    "Split",
    "Streaming",
    "Synthetic",
    "as_batches",
    "batch_sizes",
    "evaluation_batches",
    "first_images",
    "hold_out",
    "load_labels",
    "load_records",
    "make_split",
    "make_streamed_split",
    "ordered_batches",
    "pair",
    "parallel_map",
    "split_sizes",
    "streamed_batches",
    "to_unit_range",
    "training_batches",
    "translate_read_errors",
]
