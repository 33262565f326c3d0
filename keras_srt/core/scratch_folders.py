"""Temporary folders that don't stay behind when their process is killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from keras_srt.core.locks import try_lock

_STALE_SECONDS = (
    24 * 3600
)  # the age from which a folder is a leftover where folders can't be locked


@contextlib.contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield a new folder that is removed at the end, unless it has been renamed.

    The process holds a lock on the folder, so that later calls find and remove the folders of
    killed processes. Windows can't lock folders: there, they stay.

    Args:
        parent: An existing folder.
        prefix: The start of the folder's name.

    Raises:
        OSError: The folder can't be made.
    """
    _remove_leftovers(parent, prefix)
    path, descriptor = _make(parent, prefix)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def _make(parent: Path, prefix: str) -> tuple[Path, int | None]:
    """Make and lock a folder; return it with the descriptor that holds the lock."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except PermissionError:  # Windows can't open folders
            return path, None
        locked = True
        with contextlib.suppress(OSError):  # some network file systems have no locks
            locked = try_lock(descriptor)
        if locked and path.exists():  # else another process took it for a leftover
            return path, descriptor
        os.close(descriptor)


def _remove_leftovers(parent: Path, prefix: str) -> None:
    if os.name != "posix":
        return
    for path in parent.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                about = os.fstat(descriptor)
                if about.st_uid == os.geteuid() and _is_left(descriptor, about.st_mtime):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)


def _is_left(descriptor: int, modified: float) -> bool:
    """Return whether no process holds the lock of a folder."""
    try:
        return try_lock(descriptor)
    except OSError:
        return time.time() - modified > _STALE_SECONDS
