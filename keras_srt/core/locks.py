"""Locks of open files, which the operating system releases when their process ends."""

from __future__ import annotations

import errno
import importlib
import os
from typing import Any


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_fcntl = _module("fcntl")  # Linux, macOS
_msvcrt = _module("msvcrt")  # Windows

# Windows forbids other processes to read what is locked: lock a byte far behind the content.
_BYTE = 2**30


def try_lock(descriptor: int) -> bool:
    """Lock an open file against other processes, until it is closed.

    Args:
        descriptor: The file's descriptor, open for writing.

    Returns:
        Whether this call locked the file; False if another opening of the file holds the lock.

    Raises:
        OSError: The file system or the operating system has no locks.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as one, open(one.name, "a") as other:
        ...     try_lock(one.fileno()), try_lock(other.fileno())
        (True, False)
    """
    if _fcntl is not None:
        try:
            _fcntl.flock(descriptor, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
    if _msvcrt is None:
        raise OSError(errno.ENOTSUP, "this operating system has no file locks")
    position = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, _BYTE, os.SEEK_SET)
    try:
        _msvcrt.locking(descriptor, _msvcrt.LK_NBLCK, 1)
    except OSError:
        return False
    finally:
        os.lseek(descriptor, position, os.SEEK_SET)
    return True
