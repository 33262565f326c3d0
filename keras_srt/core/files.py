"""Files that a kill, a full disk or a flipped bit can't spoil unseen.

A file is written beside its place, synced and renamed: whoever reads it finds the old one or the
new one, never half of one. Its SHA-256 is kept elsewhere, and tells whether it is still whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_srt.core.errors import UserError

_DRAFT = ".draft-"
_CHUNK = 2**20


@contextlib.contextmanager
def replacing(path: Path, *faults: type[Exception]) -> Iterator[Path]:
    """Gives a draft beside a file, which takes the file's place when the block ends well.

    Args:
        path: the file; need not exist, its folder must.
        faults: what else than `OSError` writers raise where a disk is full.

    Yields:
        The draft, of the same suffixes; it is removed if the block fails.

    Raises:
        UserError: it can't be written; the file is as it was.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "a.txt")
        >>> with replacing(path) as draft:
        ...     _ = draft.write_text("whole")
        >>> path.read_text()
        'whole'
    """
    draft = draft_of(path)
    try:
        with reported(path, *faults):
            yield draft
            put(draft, path)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def draft_of(path: Path) -> Path:
    """Where a file is written before it takes its place: beside it, as a hidden file."""
    return path.with_name(_DRAFT + path.name)


def is_draft(name: str) -> bool:
    """Whether a file's name is that of a draft."""
    return name.startswith(_DRAFT)


def put(draft: Path, path: Path) -> None:
    """Makes a written draft last on the disk, and then the file.

    Raises:
        OSError: the disk is full or fails.
    """
    sync(draft)
    os.replace(draft, path)
    sync(path.parent)


def reserve(path: Path, size: int) -> None:
    """Makes sure that a file of some bytes can be written, for libraries that crash where not.

    Raises:
        OSError: the disk is full, or no file may be so large.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        os.posix_fallocate(descriptor, 0, size)
    finally:
        os.close(descriptor)
    path.unlink()


def sync(path: Path) -> None:
    """Waits until a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def reported(path: Path, *faults: type[Exception]) -> Iterator[None]:
    """Says in one line that a file or folder can't be written, see `replacing`."""
    caught: tuple[type[Exception], ...] = (OSError, *faults)
    try:
        yield
    except caught as error:
        # TensorFlow and HDF5 have reasons of their own.
        reason = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
        first = (str(reason).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{path}: can't be written ({first[:160]}); what was there before is kept; make room "
            "or allow writing there, then go on with --resume"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Writes a text file, see `replacing`."""
    with replacing(path) as draft:
        draft.write_bytes(text.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Writes JSON, see `replacing`."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def remove_drafts(folder: Path) -> None:
    """Removes what a kill left half written; nobody else may be writing there."""
    for draft in list(folder.glob(f"{_DRAFT}*")):
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The digest of a file, hexadecimal.

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


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON object with a digest of itself, its `seal`, see `replacing`."""
    write_json(path, {**content, "seal": _seal(content)})


def read_sealed(path: Path) -> dict[str, Any]:
    """Reads what `write_sealed` wrote.

    Args:
        path: of the file.

    Returns:
        The content, without the seal.

    Raises:
        OSError: it can't be read.
        ValueError: it is damaged.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "a.json")
        >>> write_sealed(path, {"step": 3})
        >>> read_sealed(path)
        {'step': 3}
        >>> _ = path.write_text(path.read_text().replace("3", "4", 1))
        >>> read_sealed(path)
        Traceback (most recent call last):
        ...
        ValueError: its seal doesn't fit its content
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(content, dict) or content.pop("seal", None) != _seal(content):
        raise ValueError("its seal doesn't fit its content")
    return content


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
