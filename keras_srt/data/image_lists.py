"""Lists of image files: class folders, folder trees and CSV files. No image is opened."""

from __future__ import annotations

import csv
import logging
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from keras_srt.core.errors import UserError
from keras_srt.core.images import IMAGE_SUFFIXES
from keras_srt.core.validation import did_you_mean

logger = logging.getLogger(__name__)

_CSV_COLUMNS = ("path", "label")
# Folders that operating systems and unpackers add.
_NOT_IMAGES = ("__macosx", "$recycle.bin", "system volume information", "@eadir", "lost+found")


class Listing(NamedTuple):
    """Image files with labels.

    Attributes:
        files: The paths, sorted by name or in the order of the CSV file.
        labels: The class name of each file, "" for an unlabeled one.
    """

    files: tuple[Path, ...]
    labels: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """The sorted class names."""
        return tuple(sorted(set(self.labels) - {""}))

    def separate(self) -> tuple[Listing, tuple[Path, ...]]:
        """Return the labeled files and the unlabeled files."""
        pairs = list(zip(self.files, self.labels, strict=True))
        known = [(file, label) for file, label in pairs if label]
        files, labels = zip(*known, strict=True) if known else ((), ())
        return Listing(files, labels), tuple(file for file, label in pairs if not label)


# Names of folders that hold a part of a dataset, as torchvision, Keras, Ultralytics and Kaggle use
# them -> the part.
_PARTS = {
    **dict.fromkeys(("train", "training", "labeled", "labelled"), "labeled"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
    **dict.fromkeys(("unlabeled", "unlabelled", "unsup"), "unlabeled"),
}


def find_parts(root: Path) -> dict[str, str]:
    """Find subfolders that are parts of a dataset, not classes.

    A single folder `train` or `test` with images is a class; with class folders inside, or beside
    another part, it is a part. So are several names like `seg_train` with class folders inside.

    Args:
        root: An existing folder.

    Returns:
        "labeled", "validation", "test" or "unlabeled" for each of these names.
    """
    exact, similar = {}, {}
    for name in subfolders(root):
        words = re.split(r"[\W_]+", name.casefold())
        if (part := _PARTS.get(name.casefold())) is not None:
            exact[name] = part
        elif parts := [_PARTS[word] for word in words if word in _PARTS]:
            similar[name] = parts[0]
    if len(exact) > 1 or "unlabeled" in exact.values():
        return exact
    nested = {name: part for name, part in exact.items() if has_class_folders(root / name)}
    similar = {name: part for name, part in similar.items() if has_class_folders(root / name)}
    return {**nested, **similar} if nested or len(similar) > 1 else {}


def subfolders(root: Path) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones and those of systems."""
    return sorted(
        entry.name for entry in os.scandir(root) if entry.is_dir() and _counts(entry.name)
    )


def loose_images(root: Path) -> list[Path]:
    """Images in a folder itself, sorted."""
    return [path for path in walk(root) if path.parent == root]


def _counts(name: str) -> bool:
    """Whether a folder may have images of the dataset."""
    return name[0] != "." and name.casefold() not in _NOT_IMAGES


def has_class_folders(root: Path) -> bool:
    """Whether a folder has images in subfolders only."""
    first = next(walk(root), None)  # images of the folder itself come first
    return first is not None and first.parent != root


def _check_classes(root: Path, setting: str, names: Sequence[str]) -> None:
    """Check that class folders aren't the parts of a dataset."""
    parts = {name: part for name, part in find_parts(root).items() if name in names}
    if not parts:
        return
    listed = ", ".join(f"{part}: {root / name}" for name, part in parts.items())
    note = ""
    if "validation" in parts.values():
        note = " (validation images are drawn from the labeled ones; use these as test images)"
    raise UserError(
        f"{setting}: {root} has the folders {', '.join(parts)}, which are parts of a dataset and "
        f"not classes; give each part a setting of its own: {listed}{note}; if they are classes, "
        "list the images in a CSV"
    )


def class_name(name: str) -> str:
    """Return the name of a class in Unicode's composed form (NFC), in which names are compared.

    Example:
        >>> len("Ba\u0308r"), len(class_name("Ba\u0308r"))
        (4, 3)
    """
    return unicodedata.normalize("NFC", name)


def list_part(path: Path, setting: str) -> Listing:
    """List the images of a folder of class folders, or of a CSV file.

    Args:
        path: A folder or a file.
        setting: The setting that holds the path, for messages.

    Raises:
        UserError: The folder or file is missing or malformed.
    """
    return read_csv(path, setting) if path.is_file() else list_classes(path, setting)


def list_classes(root: Path, setting: str, others: Sequence[Path] = ()) -> Listing:
    """List the images in class folders: each subfolder of `root` is a class.

    Empty class folders and images in no class folder are left out with a warning.

    Args:
        root: The folder of class folders; hidden folders are ignored.
        setting: The setting that holds the path, for messages.
        others: Folders of other parts. Those in `root` are no classes; if `root` itself is one,
            its images in no class folder belong to that part.

    Raises:
        UserError: The folder is missing, or has no class with an image, or its folders are parts
            of a dataset.
    """
    check_folder(root, setting)
    apart = {path.resolve() for path in others}
    names = [name for name in subfolders(root) if (root / name).resolve() not in apart]
    _check_classes(root, setting, names)
    if not names:
        raise UserError(
            f"{setting}: {root} has no subfolders; allowed: one subfolder per class, named after "
            "the class, with its images"
        )
    files: list[Path] = []
    labels: list[str] = []
    for name in names:
        found = list(walk(root / name))
        if not found:
            logger.warning("%s: %s has no image, it is no class", setting, root / name)
        files += found
        labels += [class_name(name)] * len(found)
    if not files:
        raise UserError(
            f"{setting}: the class folders in {root} have no image; allowed: files with a suffix "
            f"of {' '.join(IMAGE_SUFFIXES)}"
        )
    loose = [] if root.resolve() in apart else loose_images(root)
    if loose:
        logger.warning(
            "%s: images in no class folder are left out (%d, such as %s)",
            setting,
            len(loose),
            loose[0],
        )
    return Listing(tuple(files), tuple(labels))


def list_tree(root: Path, setting: str) -> tuple[Path, ...]:
    """List all images below a folder.

    Raises:
        UserError: The folder is missing or has no image.
    """
    check_folder(root, setting)
    found = tuple(walk(root))
    if not found:
        raise UserError(
            f"{setting}: no image in {root} (a file with a suffix of {' '.join(IMAGE_SUFFIXES)})"
        )
    return found


def check_folder(root: Path, setting: str) -> None:
    """Check that a folder exists.

    Raises:
        UserError: It does not; the message suggests a similar name.
    """
    if root.is_dir():
        return
    raise UserError(
        f"{setting}: {root} is not a folder{similar_name(root)}; give an existing folder"
    )


def similar_name(path: Path) -> str:
    """Return `; did you mean 'x'?` if the parent of a missing file has a similar name, else ""."""
    siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    return did_you_mean(path.name, siblings)


def walk(root: Path) -> Iterator[Path]:
    """Yield the images below a folder, sorted; hidden entries and linked folders are skipped."""
    for folder, subfolders, names in os.walk(root, onerror=_raise_list_error):
        subfolders[:] = sorted(filter(_counts, subfolders))
        for name in sorted(names):
            if name[0] != "." and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                yield Path(folder, name)


def _raise_list_error(error: OSError) -> None:
    raise UserError(f"{error.filename}: can't be listed ({error.strerror})") from error


def read_csv(path: Path, setting: str) -> Listing:
    """Read a CSV file with the columns `path` and `label`; a blank label means unlabeled.

    Args:
        path: A UTF-8 file; its paths are relative to its folder, with slashes or backslashes.
        setting: The setting that holds the path, for messages.

    Raises:
        UserError: The file is unreadable, lacks a column, or lists an image twice.
    """
    files: dict[Path, str] = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in _CSV_COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(
                    f"{setting}: {path} has no column {missing[0]!r}; allowed: a first line "
                    f"{','.join(_CSV_COLUMNS)}"
                )
            for row in reader:
                given, label = (row[name] for name in _CSV_COLUMNS)
                where = f"{setting}: {path}, line {reader.line_num}"
                if not given or label is None or None in row:
                    raise UserError(f"{where}: got {row}; allowed: a path, a comma, a label")
                image = _existing(path.parent, given)
                if image in files:
                    raise UserError(f"{where}: {given} is listed twice")
                files[image] = class_name(label.strip())
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{setting}: {path} can't be read as CSV ({error})") from error
    if not files:
        raise UserError(f"{setting}: {path} has no line after the first")
    return Listing(tuple(files), tuple(files.values()))


def _existing(folder: Path, given: str) -> Path:
    """Return the path of a file in a CSV; backslashes separate folders if that names a file."""
    path = folder / given
    if "\\" in given and not path.exists():
        other = folder / given.replace("\\", "/")
        return other if other.exists() else path
    return path
