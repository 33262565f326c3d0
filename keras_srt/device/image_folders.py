"""Training batches from folders of images, for training on a device."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from keras_srt.core.images import IMAGE_SUFFIXES, MAX_BYTES, BadImage, decode_image

# The cache of decoded images: decoding a photo takes longer than a training step on it.
_CACHE_BYTES = 128 * 2**20


class BadFolder(ValueError):
    """An unusable folder; the message names the folder and the reason."""


def list_unlabeled(folder: Path) -> list[Path]:
    """List the image files of a folder and its subfolders, sorted.

    Raises:
        BadFolder: There are none.
    """
    found = _list(folder)
    if not found:
        raise BadFolder(f"{folder}: has no images; allowed: a folder with image files")
    return found


def list_labeled(folder: Path, class_names: Sequence[str]) -> tuple[list[Path], list[int]]:
    """List the image files of class folders.

    Args:
        folder: A folder with files `<class name>/*.png`.
        class_names: The class names in the order of their ids; not all need a subfolder.

    Returns:
        The sorted files, and the class id of each.

    Raises:
        BadFolder: There are no files, or a subfolder is not named after a class.
    """
    ids = {_composed(name): number for number, name in enumerate(class_names)}
    subfolders = sorted(path for path in _entries(folder) if path.is_dir())
    unknown = [path.name for path in subfolders if _composed(path.name) not in ids]
    if unknown:
        raise BadFolder(
            f"{folder}: got the subfolder {unknown[0]!r}; allowed: {', '.join(class_names)}"
        )
    found = [
        (path, ids[_composed(subfolder.name)])
        for subfolder in subfolders
        for path in _list(subfolder)
    ]
    if not found:
        raise BadFolder(
            f"{folder}: has no labeled images; allowed: image files in subfolders named "
            f"after their class: {', '.join(class_names)}"
        )
    return [path for path, _ in found], [number for _, number in found]


def _composed(name: str) -> str:
    """A name in Unicode's composed form (NFC), in which names are compared."""
    return unicodedata.normalize("NFC", name)


def _entries(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise BadFolder(f"{folder}: can't be read ({error.strerror})") from error


def _list(folder: Path) -> list[Path]:
    _entries(folder)  # reports an unreadable folder, which rglob ignores
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )


class ImageFiles:
    """Draws batches from image files in shuffled passes.

    A batch depends on (seed, step) and the files only, so a resumed training sees the same
    batches. An unreadable file is replaced by the next readable one.

    Args:
        paths: The files, at least one.
        shape: Height, width and channels of the model.
        seed: The seed of the order.
        on_bad: Called once for each unreadable file, with its error.

    Attributes:
        bad: The indices of the unreadable files.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        shape: tuple[int, int, int],
        seed: Sequence[int],
        on_bad: Callable[[Path, BadImage], None],
    ) -> None:
        self.bad: set[int] = set()
        self._paths, self._shape, self._seed, self._on_bad = paths, shape, list(seed), on_bad
        size = 4 * int(np.prod(shape))
        self._decoded = functools.lru_cache(max(1, _CACHE_BYTES // size))(self._decode)
        self._order = functools.lru_cache(2)(self._shuffled)

    def batch(self, step: int, size: int) -> tuple[np.ndarray, list[int]]:
        """Return the batch of a step.

        Args:
            step: The number of the step, from 0.
            size: The number of images.

        Returns:
            float32 [size, height, width, channels] in [0, 1], and the index of each file.

        Raises:
            BadFolder: All files are unreadable.
        """
        count = len(self._paths)
        positions = range(step * size, (step + 1) * size)
        chosen = [self._readable(int(self._order(p // count)[p % count])) for p in positions]
        return np.stack([self._decoded(index) for index in chosen]), chosen

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([*self._seed, epoch]).permutation(len(self._paths))

    def _readable(self, index: int) -> int:
        """The index of the next readable file, from a given index on."""
        for candidate in range(index, index + len(self._paths)):
            candidate %= len(self._paths)
            if candidate in self.bad:
                continue
            try:
                self._decoded(candidate)
            except BadImage as error:
                self.bad.add(candidate)
                self._on_bad(self._paths[candidate], error)
            else:
                return candidate
        raise BadFolder(f"{self._paths[0].parent}: none of its images can be read")

    def _decode(self, index: int) -> np.ndarray:
        try:
            with self._paths[index].open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise BadImage(f"can't be read ({error.strerror})") from error
        return decode_image(content, self._shape)
