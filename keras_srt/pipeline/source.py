"""An opened dataset that reads each of its parts once."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from keras_srt.data import DatasetInfo, Images, Records
from keras_srt.data.source import Source


class CachedDataset:
    """An opened dataset; each part is read at its first use and kept.

    Args:
        settings: The dataset of a config.
        data_dir: The folder of prepared datasets, or None for the default.
    """

    def __init__(self, settings: Source, data_dir: Path | None = None) -> None:
        self._dataset = settings.open(data_dir)

    @property
    def info(self) -> DatasetInfo:
        """Sizes and names."""
        return self._dataset.info

    @property
    def known_labels(self) -> np.ndarray | None:
        """The labels of the training images if they are known without reading the images."""
        return self._dataset.known_labels

    @functools.cached_property
    def train(self) -> Images:
        """The training images."""
        return self._dataset.load_train()

    @functools.cached_property
    def records(self) -> Records:
        """The training images as records, which are read on demand."""
        return self._dataset.records()

    @functools.cached_property
    def _test(self) -> Images:
        return self._dataset.load_test()

    def test(self, limit: int | None = None) -> Images:
        """Return the first `limit` test images; all of them if `limit` is None."""
        images, labels = self._test
        return Images(images[:limit], labels[:limit])

    def skipped(self) -> dict[str, str]:
        """Return the unreadable files that were skipped so far: path -> reason."""
        return self._dataset.skipped()
