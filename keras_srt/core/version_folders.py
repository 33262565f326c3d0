"""The versions of a model: subfolders named by whole numbers, as in TF Serving."""

from __future__ import annotations

from pathlib import Path

_MAX_DIGITS = 19  # of a 64-bit number


def version_folders(folder: Path) -> dict[int, Path]:
    """Find the versions in a model folder.

    Args:
        folder: The folder; may be absent.

    Returns:
        The subfolders by version; of `2` and `002`, which are the same version, the shorter name.

    Example:
        >>> version_folders(Path("no-such-folder"))
        {}
    """
    if not folder.is_dir():
        return {}
    found = [path for path in folder.iterdir() if is_version(path.name) and path.is_dir()]
    longest_first = sorted(found, key=lambda path: len(path.name), reverse=True)
    return {int(path.name): path for path in longest_first}


def is_version(name: str) -> bool:
    """Return whether a name is a whole number in ASCII digits that fits into 64 bits.

    Example:
        >>> [is_version(name) for name in ("3", "002", "-1", "v3", "3" * 30)]
        [True, True, False, False, False]
    """
    return name.isascii() and name.isdecimal() and len(name.lstrip("0")) <= _MAX_DIGITS
