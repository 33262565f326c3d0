"""A summary of a folder of images, from a sample of its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.core.formatting import printable
from keras_srt.core.images import BadImage, allowed_formats, open_image
from keras_srt.data import DatasetInfo, Folder, FolderFiles, parallel_map
from keras_srt.data.photo_decoder import (
    MAX_BYTES,
    MAX_PIXELS,
    read_bytes,
    read_error_reason,
    to_upright_rgb,
)

# Number of files to open, evenly spread over all files.
_SAMPLE_SIZE = 200
# Candidate input sizes; the largest that is at most the median photo size is chosen.
_SIZES = (28, 32, 48, 64, 96, 128, 160, 224)
# The largest difference between the channels of a gray image.
_CHANNEL_SPREAD = 4


class FolderSummary(NamedTuple):
    """Summary of an image folder, from a sample of its files.

    Attributes:
        num_labeled: Number of labeled files.
        num_unlabeled: Number of unlabeled files.
        classes: Class names.
        size: Suitable input height and width.
        channels: 1 if all sampled images are gray, else 3.
        unreadable: Number of sampled files that can't be read.
        opened: Number of sampled files.
        num_test: Number of test files; 0 if they are held out from the labeled ones.
    """

    num_labeled: int
    num_unlabeled: int
    classes: tuple[str, ...]
    size: int
    channels: int
    unreadable: int
    opened: int
    num_test: int = 0

    def dataset_info(self, source: Folder, size: int) -> DatasetInfo:
        """Describe the dataset as far as the cost of a step depends on it, without opening it.

        Args:
            source: The dataset settings.
            size: The height and width of the images, in pixels.
        """
        held_out = 0 if source.test is not None else round(source.test_share * self.num_labeled)
        labeled = max(2 * len(self.classes), self.num_labeled - held_out)
        return DatasetInfo(
            title="own images",
            input_shape=(size, size, self.channels),
            class_names=self.classes,
            num_train=labeled + self.num_unlabeled,
            num_test=held_out or self.num_test,
            num_labeled=labeled,
        )

    def describe(self) -> list[str]:
        """Describe the folder in lines of text."""
        kind = "gray" if self.channels == 1 else "color"
        test = f", {self.num_test:,} test" if self.num_test else ""
        lines = [
            f"images    {self.num_labeled:,} labeled, {self.num_unlabeled:,} unlabeled{test}",
            f"classes   {len(self.classes)}: {_some(self.classes)}",
            f"size      {self.size} x {self.size}, {kind}, from a sample of {self.opened:,} files",
        ]
        if self.unreadable:
            lines.append(f"warning: {self.unreadable:,} of the sampled files can't be read")
        return lines


def summarize(parts: FolderFiles) -> FolderSummary:
    """Open a sample of the files and summarize the folder.

    Args:
        parts: The files of the folder.

    Raises:
        UserError: None of the sampled files can be read.
    """
    files = [*parts.labeled.files, *parts.unlabeled]
    chosen = [files[i] for i in np.unique(np.linspace(0, len(files) - 1, _SAMPLE_SIZE, dtype=int))]
    found = list(parallel_map(_shape, chosen, "reading"))
    shapes = [shape for shape in found if shape is not None]
    if not shapes:
        raise UserError(
            f"init: none of {len(chosen)} files can be read, such as {chosen[0]}: "
            f"{_reason(chosen[0])}; allowed: existing files in the formats {allowed_formats()}"
        )
    typical = np.median([min(height, width) for height, width, _ in shapes])
    return FolderSummary(
        len(parts.labeled.files),
        len(parts.unlabeled),
        parts.labeled.classes,
        max((size for size in _SIZES if size <= typical), default=_SIZES[0]),
        3 if any(is_color for *_, is_color in shapes) else 1,
        len(found) - len(shapes),
        len(found),
        0 if parts.test is None else len(parts.test.files),
    )


def _shape(path: Path) -> tuple[int, int, bool] | None:
    """Return height, width, and whether the image has colors; None if it can't be read."""
    try:
        with open_image(read_bytes(path), MAX_BYTES, MAX_PIXELS) as image:
            size = image.size
            image.draft("RGB", (256, 256))
            photo = to_upright_rgb(image)
    except (BadImage, OSError):
        return None
    if (photo.width > photo.height) != (size[0] > size[1]):
        size = size[::-1]
    small = np.int16(photo.resize((32, 32)))
    return size[1], size[0], bool(np.ptp(small, axis=-1).max() > _CHANNEL_SPREAD)


def _reason(path: Path) -> str:
    """Return why a file can't be read."""
    try:
        with open_image(read_bytes(path), MAX_BYTES, MAX_PIXELS) as image:
            image.load()
    except (BadImage, OSError) as error:
        return read_error_reason(error)
    return "is not a photo"


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(printable, names[:8])) + (", …" if len(names) > 8 else "")
