"""Image files by name: class folders, trees, CSV files. No image is opened here."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from keras_srt.core.errors import UserError
from keras_srt.core.images import SUFFIXES
from keras_srt.core.validation import did_you_mean

# Of a CSV, and its limit on a field.
_COLUMNS = ("path", "label")


class Listing(NamedTuple):
    """Files with labels.

    Attributes:
        files: in the order of their names, or of the CSV's lines.
        labels: a class name for each, "" for an unlabeled one.
    """

    files: tuple[Path, ...]
    labels: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, sorted."""
        return tuple(sorted(set(self.labels) - {""}))

    def divided(self) -> tuple[Listing, tuple[Path, ...]]:
        """The labeled files, and those of the others."""
        pairs = list(zip(self.files, self.labels, strict=True))
        known = [(file, label) for file, label in pairs if label]
        files, labels = zip(*known, strict=True) if known else ((), ())
        return Listing(files, labels), tuple(file for file, label in pairs if not label)


def list_part(path: Path, setting: str) -> Listing:
    """The files of a folder of class folders, or of a CSV.

    Args:
        path: a folder or a file.
        setting: that named it, for messages.

    Raises:
        UserError: there is no such folder or file, or it isn't as it has to be.
    """
    return read_csv(path, setting) if path.is_file() else list_classes(path, setting)


def list_classes(root: Path, setting: str) -> Listing:
    """The images below each folder in `root`, which is their class.

    Args:
        root: a folder of folders; hidden ones are left out.
        setting: that named it, for messages.

    Raises:
        UserError: there is no such folder, no class, or one without an image.
    """
    check_folder(root, setting)
    names = sorted(
        entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != "."
    )
    if not names:
        raise UserError(
            f"{setting}: {root} has no folder in it; allowed: a folder for each class, named as "
            "the class, with its images"
        )
    files: list[Path] = []
    labels: list[str] = []
    for name in names:
        found = list(walk(root / name))
        if not found:
            raise UserError(
                f"{setting}: the class {name!r} has no image in {root / name}; allowed: at least "
                f"one (a file named {' '.join(SUFFIXES)}), or no folder"
            )
        files += found
        labels += [name] * len(found)
    return Listing(tuple(files), tuple(labels))


def list_tree(root: Path, setting: str) -> tuple[Path, ...]:
    """All images below a folder.

    Raises:
        UserError: there is no such folder, or no image in it.
    """
    check_folder(root, setting)
    found = tuple(walk(root))
    if not found:
        raise UserError(f"{setting}: no image in {root} (a file named {' '.join(SUFFIXES)})")
    return found


def check_folder(root: Path, setting: str) -> None:
    """Checks that a folder is there.

    Raises:
        UserError: it isn't; with a name that is near.
    """
    if root.is_dir():
        return
    beside = [path.name for path in root.parent.iterdir()] if root.parent.is_dir() else []
    hint = did_you_mean(root.name, beside)
    raise UserError(f"{setting}: {root} is no folder{hint}; give one, or make it")


def walk(root: Path) -> Iterator[Path]:
    """The images below a folder by their names, sorted; hidden files and linked folders are not."""
    for folder, below, names in os.walk(root, onerror=_refuse):
        below[:] = sorted(name for name in below if name[0] != ".")
        for name in sorted(names):
            if name[0] != "." and os.path.splitext(name)[1].lower() in SUFFIXES:
                yield Path(folder, name)


def _refuse(error: OSError) -> None:
    raise UserError(f"{error.filename}: can't be listed ({error.strerror})") from error


def read_csv(path: Path, setting: str) -> Listing:
    """The files of a CSV with the columns `path` and `label`; a blank label is an unlabeled image.

    Args:
        path: a UTF-8 file; paths in it are relative to its folder.
        setting: that named it, for messages.

    Raises:
        UserError: it can't be read, lacks a column, or has a file twice.
    """
    files: dict[Path, str] = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(
                    f"{setting}: {path} has no column {missing[0]!r}; allowed: a first line "
                    f"{','.join(_COLUMNS)}"
                )
            for row in reader:
                given, label = (row[name] for name in _COLUMNS)
                where = f"{setting}: {path}, line {reader.line_num}"
                if not given or label is None or None in row:
                    raise UserError(f"{where}: got {row}; allowed: a path, a comma, a label")
                image = path.parent / given
                if image in files:
                    raise UserError(f"{where}: {given} stands there twice")
                files[image] = label.strip()
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{setting}: {path} can't be read as CSV ({error})") from error
    if not files:
        raise UserError(f"{setting}: {path} has no line below the first")
    return Listing(tuple(files), tuple(files.values()))
