"""Finding of image files from files, folders and globs, lazily and in constant memory."""

from __future__ import annotations

import heapq
import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from keras_srt.core.errors import UserError
from keras_srt.core.images import IMAGE_SUFFIXES

# Names of a folder that are sorted in memory at a time.
NAMES_AT_A_TIME = 50_000

_MAGIC = re.compile(r"[*?[]")


def find_images(
    arguments: Sequence[str], skip: Path | None = None, ordered: bool = True
) -> Iterator[Path]:
    """Find the image files for command-line arguments.

    A file is yielded whatever its name. A folder yields the images in it and in its subfolders; a
    glob (`*`, `?`, `[…]`, and `**` for any folders) yields the images that match, or that are in
    a matching folder. Folders and globs skip hidden files and links to folders.

    Args:
        arguments: Files, folders and globs.
        skip: A folder to skip, such as that of the results.
        ordered: Whether the files of a folder are sorted by name.

    Yields:
        Paths that start as the arguments do. Missing files and unreadable folders are yielded,
        too; they fail when they are read.

    Example:
        >>> list(find_images(["digits/7.png"]))
        [PosixPath('digits/7.png')]
    """
    skip = skip.resolve() if skip is not None else None
    for argument in arguments:
        root, pattern = _root_and_pattern(argument)
        if pattern is None:
            yield root
        elif root.is_dir():
            yield from _walk(root, (), pattern, skip, ordered)


def check_sources(arguments: Sequence[str], skip: Path | None = None) -> None:
    """Check that the arguments yield images.

    Args:
        arguments: Files, folders and globs.
        skip: A folder to skip.

    Raises:
        UserError: A folder or glob yields no image, none of the files exists, or an argument is
            in the folder to skip.
    """
    files = [root for root, pattern in map(_root_and_pattern, arguments) if pattern is None]
    if len(files) == len(arguments) and not any(map(os.path.lexists, files)):
        raise UserError(f"{', '.join(map(str, files))}: no such file or folder")
    for argument in arguments:
        root, _ = _root_and_pattern(argument)
        if skip is not None and root.resolve().is_relative_to(skip.resolve()):
            raise UserError(f"{argument}: is inside {skip}, the folder of results; choose another")
        if next(find_images([argument], skip, ordered=False), None) is None:
            names = " ".join(IMAGE_SUFFIXES)
            raise UserError(f"{argument}: contains no image (a file named {names})")


def _root_and_pattern(argument: str) -> tuple[Path, tuple[str, ...] | None]:
    """Split an argument into a folder and the pattern below it; the pattern of a file is None."""
    path = Path(argument)
    if path.is_dir():
        return path, ()
    parts = path.parts
    magic = next((i for i, part in enumerate(parts) if _MAGIC.search(part)), None)
    if magic is None or os.path.lexists(path):
        return path, None
    return Path(*parts[:magic]), parts[magic:]


def _walk(
    root: Path, below: tuple[str, ...], pattern: tuple[str, ...], skip: Path | None, ordered: bool
) -> Iterator[Path]:
    folder = root.joinpath(*below)
    try:
        for name, is_folder in _ordered_entries(folder) if ordered else _entries(folder):
            parts = (*below, name)
            if is_folder:
                if _may_match_below(parts, pattern) and (folder / name).resolve() != skip:
                    yield from _walk(root, parts, pattern, skip, ordered)
            elif os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and _matches(parts, pattern):
                yield folder / name
    except OSError:
        yield folder


def _entries(folder: Path, after: str = "") -> Iterator[tuple[str, bool]]:
    """Yield the names greater than `after`, unordered, each with whether it is a folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name > after and not entry.name.startswith("."):
                # Links to folders are not followed, because they may form a loop.
                yield entry.name, entry.is_dir(follow_symlinks=False)


def _ordered_entries(folder: Path) -> Iterator[tuple[str, bool]]:
    """Yield the entries in order; a large folder is read in several passes to save memory."""
    after = ""
    while True:
        entries = heapq.nsmallest(NAMES_AT_A_TIME, _entries(folder, after))
        yield from entries
        if len(entries) < NAMES_AT_A_TIME:
            return
        after = entries[-1][0]


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a path or one of its parents matches the pattern part by part."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_matches(parts[i:], pattern[1:]) for i in range(len(parts)))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _may_match_below(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a path below this folder can match the pattern."""
    for part, wanted in zip(parts, pattern, strict=False):
        if wanted == "**":
            return True
        if not fnmatchcase(part, wanted):
            return False
    return True
