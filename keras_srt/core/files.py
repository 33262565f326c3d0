"""Atomic file writes, checksums, and JSON files with a checksum.

A file is written to a draft in the same folder, synced and renamed: readers see the old file or
the new one, never a part of it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_srt.core.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DRAFT = ".draft-"
_CHUNK = 2**20


@contextlib.contextmanager
def atomic_write(path: Path, *errors: type[Exception]) -> Iterator[Path]:
    """Yield a draft that replaces the file when the block succeeds.

    Each process has a draft of its own: when several write the same file, the last one wins.

    Args:
        path: The file; its folder must exist.
        errors: Exceptions other than `OSError` that mean a failed write.

    Yields:
        The draft, with the suffixes of `path`; it is removed if the block fails.

    Raises:
        UserError: The file cannot be written; the old file is unchanged.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "a.txt")
        >>> with atomic_write(path) as draft:
        ...     _ = draft.write_text("complete")
        >>> path.read_text()
        'complete'
    """
    draft = path.with_name(f"{_DRAFT}{os.getpid()}-{path.name}")
    try:
        with translate_write_errors(path, *errors):
            yield draft
            commit_draft(draft, path)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def absolute(path: Path, what: str) -> Path:
    """Return an absolute path that TensorFlow can use.

    Args:
        path: A file or folder; it may be missing.
        what: The meaning of the path, for the message.

    Raises:
        UserError: The working directory is gone, or the path isn't text in UTF-8 or has NUL.
    """
    try:
        # Without `..`, which would need the working directory to exist.
        made = path.resolve()
    except FileNotFoundError as error:
        raise UserError("the working directory was removed; change to another one") from error
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, NUL
        raise UserError(f"{what}: got {str(path)!r}, which is no path ({error})") from error
    try:
        str(made).encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"{what}: {path} is no name in UTF-8; give another one, or set PYTHONUTF8=1 if the "
            "locale isn't UTF-8"
        ) from error
    return made


def draft_path(path: Path) -> Path:
    """Return the draft of a file that only one process writes: a hidden file beside it."""
    return path.with_name(_DRAFT + path.name)


def is_draft(name: str) -> bool:
    """Whether a file name is that of a draft."""
    return name.startswith(_DRAFT)


def commit_draft(draft: Path, path: Path) -> None:
    """Sync a draft to the disk and rename it to the file.

    Raises:
        OSError: The disk is full or fails.
    """
    fsync(draft)
    os.replace(draft, path)
    fsync(path.parent)


def check_space(path: Path, size: int) -> None:
    """Check that a file of a given size can be written, for libraries that crash otherwise.

    Args:
        path: The file; it is removed.
        size: The size in bytes.

    Raises:
        OSError: The disk is full, or the size exceeds a limit.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        elif shutil.disk_usage(path.parent).free < size:  # macOS, Windows
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)
    path.unlink()


def fsync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    if os.name != "posix" and path.is_dir():  # Windows cannot open folders
        return
    # Windows syncs only files that are open for writing.
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def translate_write_errors(path: Path, *errors: type[Exception]) -> Iterator[None]:
    """Raise a `UserError` for a failed write; see `atomic_write`."""
    caught: tuple[type[Exception], ...] = (OSError, *errors)
    try:
        yield
    except caught as error:
        # TensorFlow's errors have a `message`, HDF5's have only their text.
        reason = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
        first = (str(reason).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{path}: can't be written ({first[:160]}); what was there before is kept; free disk "
            "space or allow writing there, then run the command again (a training with --resume)"
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file; see `atomic_write`."""
    with atomic_write(path) as draft:
        draft.write_bytes(content)


def write_text(path: Path, text: str, errors: str = "strict") -> None:
    """Write a text file in UTF-8; see `atomic_write`.

    Args:
        path: The file.
        text: The content.
        errors: What happens to characters that UTF-8 lacks, as in `str.encode`.
    """
    write_bytes(path, text.encode("utf-8", errors))


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write an .npz file; see `atomic_write`."""
    # In memory first, because NumPy hides the error of a full disk behind another one.
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_bytes(path, content.getvalue())


def write_figure(path: Path, figure: Figure, **settings: Any) -> None:
    """Write a figure of Matplotlib as a PNG file; see `atomic_write`."""
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None}, **settings)
    write_bytes(path, content.getvalue())


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file; see `atomic_write`."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def remove_drafts(folder: Path) -> None:
    """Remove the drafts that a killed process left; no other process may write to the folder."""
    for draft in list(folder.glob(f"{_DRAFT}*")):
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    Example:
        >>> import os
        >>> sha256(Path(os.devnull))[:8]
        'e3b0c442'
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def write_checksummed_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object with its checksum under the key `seal`; see `atomic_write`."""
    write_json(path, {**content, "seal": json_checksum(content)})


def read_checksummed_json(path: Path) -> dict[str, Any]:
    """Read a file that `write_checksummed_json` wrote.

    Args:
        path: The file.

    Returns:
        The object without its checksum.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is damaged.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "a.json")
        >>> write_checksummed_json(path, {"step": 3})
        >>> read_checksummed_json(path)
        {'step': 3}
        >>> _ = path.write_text(path.read_text().replace("3", "4", 1))
        >>> read_checksummed_json(path)
        Traceback (most recent call last):
        ...
        ValueError: the checksum does not match the content
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
    if not isinstance(content, dict) or content.pop("seal", None) != json_checksum(content):
        raise ValueError("the checksum does not match the content")
    return content


def json_checksum(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a JSON object, independent of its key order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
