"""scikit-learn's handwritten digits."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from typing_extensions import override

from keras_srt.core.registry import component
from keras_srt.core.validation import whole
from keras_srt.data.source import Dataset, DatasetInfo, Images, InMemoryDataset, Source


@component
class Digits(Source):
    """scikit-learn's 1,797 handwritten digits of 8×8 pixels, upsampled; no download.

    The dataset has no test set: 500 images, stratified by class, always serve as one.

    Args:
        size: Height and width in pixels after bilinear upsampling.

    Example:
        >>> Digits().open().info.num_test
        500
    """

    name: ClassVar[str] = "digits"

    size: Annotated[int, whole(8, 512)] = field(default=28, kw_only=False)

    @override
    def open(self, data_dir: Path | None = None) -> Dataset:
        shape = (self.size, self.size, 1)
        names = tuple(str(digit) for digit in range(10))
        info = DatasetInfo("scikit-learn digits", shape, names, 1297, 500)
        return InMemoryDataset(self.name, info, self._load)

    def _load(self) -> tuple[Images, Images]:
        from PIL import Image
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        size = (self.size, self.size)
        # scikit-learn's pixel values range from 0 to 16.
        small = np.uint8(np.round(digits.images * (255 / 16)))
        images = np.stack(
            [Image.fromarray(image).resize(size, Image.Resampling.BILINEAR) for image in small]
        )[..., None]
        labels = np.int32(digits.target)
        train, test = train_test_split(
            np.arange(len(labels)), test_size=500, random_state=0, stratify=labels
        )
        return Images(images[train], labels[train]), Images(images[test], labels[test])
