"""Data: where images come from, which are labeled, and how they are batched."""

from keras_srt.components import Registry
from keras_srt.data.pipeline import (
    Augmentation,
    BatchSizes,
    batch_sizes,
    evaluation_batches,
    training_batches,
)
from keras_srt.data.sources import (
    CIFAR10,
    MNIST,
    AnyTFDS,
    Arrays,
    DatasetInfo,
    Digits,
    Images,
    Source,
)
from keras_srt.data.split import Split, check_sizes, make_split

# `Arrays` is for Python only: a JSON config can't hold them.
DATASETS: Registry[Source] = Registry(
    "dataset",
    Digits,
    MNIST,
    CIFAR10,
    AnyTFDS,
)

__all__ = [
    "CIFAR10",
    "DATASETS",
    "MNIST",
    "AnyTFDS",
    "Arrays",
    "Augmentation",
    "BatchSizes",
    "DatasetInfo",
    "Digits",
    "Images",
    "Source",
    "Split",
    "batch_sizes",
    "check_sizes",
    "evaluation_batches",
    "make_split",
    "training_batches",
]
