"""Images in folders -> the batches of a training on the device."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from keras_srt.core.images import MAX_BYTES, BadImage, decode_image

_SUFFIXES = (".png", ".jpg", ".jpeg")
# Decoded images that stay in memory: photos take longer to decode than to learn from.
_CACHE_BYTES = 128 * 2**20


class BadFolder(ValueError):
    """A folder with nothing to learn from; the text names it and says why."""


def list_unlabeled(folder: Path) -> list[Path]:
    """PNG and JPEG files of a folder and its sub-folders, sorted.

    Raises:
        BadFolder: there are none.
    """
    found = _list(folder)
    if not found:
        raise BadFolder(f"{folder}: has no images; allowed: a folder with PNG or JPEG files")
    return found


def list_labeled(folder: Path, class_names: Sequence[str]) -> tuple[list[Path], list[int]]:
    """PNG and JPEG files of the sub-folders that are named by the classes.

    Args:
        folder: `folder/<class name>/*.png`.
        class_names: in the order of their ids; a class may have no sub-folder.

    Returns:
        The files, sorted, and the class id of each.

    Raises:
        BadFolder: there are none, or a sub-folder is named by no class.
    """
    ids = {name: number for number, name in enumerate(class_names)}
    subfolders = sorted(path for path in _entries(folder) if path.is_dir())
    unknown = [path.name for path in subfolders if path.name not in ids]
    if unknown:
        raise BadFolder(
            f"{folder}: got the sub-folder {unknown[0]!r}; allowed: {', '.join(class_names)}"
        )
    found = [(path, ids[subfolder.name]) for subfolder in subfolders for path in _list(subfolder)]
    if not found:
        raise BadFolder(
            f"{folder}: has no labeled images; allowed: PNG or JPEG files in sub-folders named "
            f"by their class: {', '.join(class_names)}"
        )
    return [path for path, _ in found], [number for _, number in found]


def _entries(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise BadFolder(f"{folder}: can't be read ({error.strerror})") from error


def _list(folder: Path) -> list[Path]:
    _entries(folder)  # names a folder that can't be read, which rglob passes over
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
    )


class ImageFiles:
    """Files from which batches are drawn, each file once before any comes again.

    A batch is a function of (seed, step) and the files alone, so that a training goes on
    after an interruption as if there had been none. A file that can't be read is left out:
    the next one takes its place.

    Args:
        paths: of the files, at least one.
        shape: (height, width, channels) of the model.
        seed: of the order.
        on_bad: told of each file that is left out, once, and why.
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
        """The images of a step.

        Args:
            step: its number, from 0.
            size: how many.

        Returns:
            float32 [size, height, width, channels] in [0, 1], and the number of each file.

        Raises:
            BadFolder: not one file can be read.
        """
        count = len(self._paths)
        places = range(step * size, (step + 1) * size)
        chosen = [self._readable(int(self._order(p // count)[p % count])) for p in places]
        return np.stack([self._decoded(number) for number in chosen]), chosen

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([*self._seed, epoch]).permutation(len(self._paths))

    def _readable(self, number: int) -> int:
        """The file of that number, or the next one that can be read."""
        for candidate in range(number, number + len(self._paths)):
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
        raise BadFolder(f"{self._paths[0].parent}: not one of its images can be read")

    def _decode(self, number: int) -> np.ndarray:
        try:
            with self._paths[number].open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise BadImage(f"can't be read ({error.strerror})") from error
        return decode_image(content, self._shape)
