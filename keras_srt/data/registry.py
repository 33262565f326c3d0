"""The datasets that a config can name."""

from __future__ import annotations

from keras_srt.core.registry import Registry
from keras_srt.data.digits import Digits
from keras_srt.data.folder import Folder
from keras_srt.data.source import Source
from keras_srt.data.synthetic import Synthetic
from keras_srt.data.tfds import CIFAR10, MNIST, AnyTFDS

# `Arrays` is missing: JSON configs cannot hold arrays.
DATASETS: Registry[Source] = Registry(
    "dataset",
    Digits,
    MNIST,
    CIFAR10,
    AnyTFDS,
    Folder,
    Synthetic,
)
