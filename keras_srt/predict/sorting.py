"""Sorting of images into one folder per class, by links or copies."""

from __future__ import annotations

import filecmp
import hashlib
import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from keras_srt.core.errors import UserError
from keras_srt.predict.backends import Prediction

_FORBIDDEN_CHARACTERS = '/\\:*?"<>|'
_MAX_NAME_LENGTH = 100


def folder_names(classes: Sequence[str]) -> list[str]:
    """Make unique folder names for classes that are valid on every file system.

    Args:
        classes: Class names; may be any text.

    Returns:
        One folder name per class. Forbidden characters become `_`; if two names would be the same
        folder, the class id is appended.

    Example:
        >>> folder_names(["cat", "../cat", "a/b", "a_b", "Cat"])
        ['cat', '_cat', 'a_b', 'a_b-3', 'Cat-4']
    """
    names: list[str] = []
    taken: set[str] = set()
    for class_id, text in enumerate(classes):
        allowed = [c if c.isprintable() and c not in _FORBIDDEN_CHARACTERS else "_" for c in text]
        name = "".join(allowed)[:_MAX_NAME_LENGTH].strip(" .") or "class"
        candidates = (f"{name}{'-' * i}{class_id}" for i in itertools.count(1))
        while name.casefold() in taken:
            name = next(candidates)
        names.append(name)
        taken.add(name.casefold())
    return names


class Sorter:
    """Sorts images into `folder/<class>/` without overwriting existing files.

    If another file has the same name, a suffix derived from the original path is added, so that
    sorting the same images again changes nothing.

    Args:
        folder: Target folder; created if absent.
        copy: Whether to copy the images; otherwise, symbolic links are made.

    Attributes:
        folder: As given.

    Raises:
        UserError: The folder can't be created.

    Example:
        >>> Sorter(Path("sorted"), copy=True).add(file, prediction)  # doctest: +SKIP
        PosixPath('sorted/7/0001.png')
    """

    def __init__(self, folder: Path, copy: bool = False) -> None:
        self.folder = folder
        self._put = _copy if copy else _link
        self._classes: tuple[str, ...] = ()
        self._names: list[str] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--sort-into {folder}: can't be created ({error.strerror})") from error

    def add(self, file: Path, prediction: Prediction) -> Path:
        """Link or copy an image into the folder of its predicted class.

        Args:
            file: The image.
            prediction: Its prediction, without an error.

        Returns:
            The link or copy.

        Raises:
            UserError: The link or copy can't be written.
        """
        if prediction.classes != self._classes:
            self._classes, self._names = prediction.classes, folder_names(prediction.classes)
        target = self.folder / self._names[prediction.top(1)[0]]
        try:
            target.mkdir(exist_ok=True)
            return next(path for path in _candidates(target, file) if self._put(file, path))
        except OSError as error:
            raise UserError(f"--sort-into {target}: can't add {file} ({error.strerror})") from error


def _candidates(folder: Path, file: Path) -> Iterator[Path]:
    yield folder / file.name
    # A digest instead of a counter, so that many files with one name take constant time each.
    origin = hashlib.sha256(os.fsencode(os.path.abspath(file))).hexdigest()[:10]
    yield folder / f"{file.stem}-{origin}{file.suffix}"
    for number in itertools.count(2):
        yield folder / f"{file.stem}-{origin}-{number}{file.suffix}"


def _link(file: Path, target: Path) -> bool:
    """Make a link; return whether `target` is a link to the file now."""
    origin = os.path.abspath(file)
    try:
        os.symlink(origin, target)
    except FileExistsError:
        return target.is_symlink() and os.readlink(target) == origin
    return True


def _copy(file: Path, target: Path) -> bool:
    """Make a copy; return whether `target` is a copy of the file now."""
    try:
        with file.open("rb") as source, target.open("xb") as copy:
            try:
                shutil.copyfileobj(source, copy)
            except BaseException:
                # A partial copy would block the name.
                target.unlink()
                raise
    except FileExistsError:
        return target.is_file() and filecmp.cmp(file, target, shallow=False)
    shutil.copystat(file, target)
    return True
