"""Files images into a folder for each class, by link or by copy."""

from __future__ import annotations

import filecmp
import hashlib
import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from keras_srt.core.errors import UserError
from keras_srt.predict.backends import Answer

_NOT_IN_NAMES = '/\\:*?"<>|'
_LONGEST_NAME = 100


def folder_names(classes: Sequence[str]) -> list[str]:
    """Names of folders for classes: safe on any file system, and all different.

    Args:
        classes: names of classes; a model may have any text there.

    Returns:
        A name for each. Signs that lead out of a folder or that some file system refuses
        become `_`; where two names would be the same folder, the class id is appended.

    Example:
        >>> folder_names(["cat", "../cat", "a/b", "a_b", "Cat"])
        ['cat', '_cat', 'a_b', 'a_b-3', 'Cat-4']
    """
    names: list[str] = []
    taken: set[str] = set()
    for class_id, text in enumerate(classes):
        signs = [sign if sign.isprintable() and sign not in _NOT_IN_NAMES else "_" for sign in text]
        name = "".join(signs)[:_LONGEST_NAME].strip(" .") or "class"
        candidates = (f"{name}{'-' * i}{class_id}" for i in itertools.count(1))
        while name.casefold() in taken:
            name = next(candidates)
        names.append(name)
        taken.add(name.casefold())
    return names


class Sorter:
    """Files images into `folder/<class>/`; what is there already is never overwritten.

    Another image of the same name gets a suffix that stands for where it came from, so that
    filing the same images again changes nothing.

    Args:
        folder: made if absent.
        copy: whether to copy; else symbolic links are made.

    Raises:
        UserError: the folder can't be made.

    Example:
        >>> Sorter(Path("sorted"), copy=True).add(file, answer)  # doctest: +SKIP
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
            raise UserError(f"--sort-into {folder}: can't be made ({error.strerror})") from error

    def add(self, file: Path, answer: Answer) -> Path:
        """Files an image.

        Args:
            file: the image.
            answer: without an error.

        Returns:
            Where it lies now.

        Raises:
            UserError: it can't be written there.
        """
        if answer.classes != self._classes:
            self._classes, self._names = answer.classes, folder_names(answer.classes)
        place = self.folder / self._names[answer.top(1)[0]]
        try:
            place.mkdir(exist_ok=True)
            return next(path for path in _candidates(place, file) if self._put(file, path))
        except OSError as error:
            raise UserError(f"--sort-into {place}: can't take {file} ({error.strerror})") from error


def _candidates(folder: Path, file: Path) -> Iterator[Path]:
    yield folder / file.name
    # By a digest and not by counting: a million files of one name take no longer.
    origin = hashlib.sha256(os.fsencode(os.path.abspath(file))).hexdigest()[:10]
    yield folder / f"{file.stem}-{origin}{file.suffix}"
    for number in itertools.count(2):
        yield folder / f"{file.stem}-{origin}-{number}{file.suffix}"


def _link(file: Path, target: Path) -> bool:
    """Links, unless something else has the name; true if the link is there."""
    origin = os.path.abspath(file)
    try:
        os.symlink(origin, target)
    except FileExistsError:
        return target.is_symlink() and os.readlink(target) == origin
    return True


def _copy(file: Path, target: Path) -> bool:
    """Copies, unless something else has the name; true if the copy is there."""
    try:
        with file.open("rb") as source, target.open("xb") as copy:
            try:
                shutil.copyfileobj(source, copy)
            except BaseException:
                # Half a copy would keep the name for good.
                target.unlink()
                raise
    except FileExistsError:
        return target.is_file() and filecmp.cmp(file, target, shallow=False)
    shutil.copystat(file, target)
    return True
