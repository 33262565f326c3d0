"""The registry of datasets."""

from keras_srt.data import (
    DATASETS,
)


def test_registry_names():
    assert set(DATASETS) == {"digits", "mnist", "cifar10", "tfds", "folder", "synthetic"}
