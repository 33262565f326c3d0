"""Image files from files, folders and globs, one after the other, in memory that stays flat."""

from __future__ import annotations

import heapq
import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from keras_srt.core.errors import UserError
from keras_srt.core.images import IMAGE_SUFFIXES

# Names of one folder that are held in memory at a time, to give them in order.
NAMES_AT_A_TIME = 50_000

_MAGIC = re.compile(r"[*?[]")


def find_images(
    arguments: Sequence[str], skip: Path | None = None, ordered: bool = True
) -> Iterator[Path]:
    """Yields the files that arguments of a command line stand for.

    A file stands for itself, whatever its name. A folder stands for the images in it and in
    its sub-folders; a glob (`*`, `?`, `[…]`, and `**` for any folders) for the images that
    match, or that lie in a folder that matches. Hidden files and links to folders are left
    out of both. Nothing is read but names.

    Args:
        arguments: files, folders and globs.
        skip: a folder that is not looked into, such as the one that results go to.
        ordered: whether a folder's files come in the order of their names.

    Yields:
        Paths as they were given, with what was found below them. One that isn't there, and
        a folder that can't be listed, is given as it is, and fails when it is read.

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
    """Checks that there is something to do.

    Args:
        arguments: files, folders and globs.
        skip: as for `find_images`.

    Raises:
        UserError: a folder or a glob holds no image, none of the files exists, or images
            lie in the folder to skip.
    """
    files = [root for root, pattern in map(_root_and_pattern, arguments) if pattern is None]
    if len(files) == len(arguments) and not any(map(os.path.lexists, files)):
        raise UserError(f"{', '.join(map(str, files))}: no such file or folder")
    for argument in arguments:
        root, _ = _root_and_pattern(argument)
        if skip is not None and root.resolve().is_relative_to(skip.resolve()):
            raise UserError(f"{argument}: lies in {skip}, where the results go; choose another")
        if next(find_images([argument], skip, ordered=False), None) is None:
            names = " ".join(IMAGE_SUFFIXES)
            raise UserError(f"{argument}: no image there (a file named {names})")


def _root_and_pattern(argument: str) -> tuple[Path, tuple[str, ...] | None]:
    """A folder with what to match below it (nothing: all), or a file with None."""
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
    """Names later than one, in no order, each with whether it is a folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name > after and not entry.name.startswith("."):
                # A link to a folder may lead back up, so it isn't one here.
                yield entry.name, entry.is_dir(follow_symlinks=False)


def _ordered_entries(folder: Path) -> Iterator[tuple[str, bool]]:
    """The entries in order, in several passes over a large folder instead of one long list."""
    after = ""
    while True:
        entries = heapq.nsmallest(NAMES_AT_A_TIME, _entries(folder, after))
        yield from entries
        if len(entries) < NAMES_AT_A_TIME:
            return
        after = entries[-1][0]


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a path, or a folder above it, matches part by part."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_matches(parts[i:], pattern[1:]) for i in range(len(parts)))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _may_match_below(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether something in this folder can match, so that others need not be looked into."""
    for part, wanted in zip(parts, pattern, strict=False):
        if wanted == "**":
            return True
        if not fnmatchcase(part, wanted):
            return False
    return True
