"""Versions of an exported model: whole numbers, published by rename, never touched again."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from keras_srt.core.errors import UserError
from keras_srt.core.tensorflow import tf

# A draft older than this was left by an export that was killed.
_STALE_SECONDS = 24 * 3600


def versions_in(folder: Path) -> set[int]:
    """The versions in a folder: its sub-folders whose names are whole numbers.

    Args:
        folder: need not exist.

    Example:
        >>> versions_in(Path("no-such-folder"))
        set()
    """
    if not folder.is_dir():
        return set()
    return {int(path.name) for path in folder.iterdir() if path.name.isdecimal()}


def next_version(*folders: Path) -> int:
    """The lowest whole number above every version in any of the folders.

    Args:
        *folders: folders whose sub-folders are versions; they need not exist.

    Returns:
        1 where there is none yet.

    Example:
        >>> next_version(Path("no-such-folder"))
        1
    """
    return max(set().union(*map(versions_in, folders)), default=0) + 1


@contextmanager
def published(folder: Path, version: int) -> Iterator[Path]:
    """Gives a draft folder that becomes `folder/version` when the block ends well.

    Args:
        folder: holds the versions; made if absent.
        version: a whole number that is free.

    Yields:
        The draft; it is removed if the block fails.

    Raises:
        UserError: the version is negative or exists already, the folder can't be written, or
            the disk is full.
    """
    if version < 0:
        raise UserError(f"version: got {version}; allowed: a whole number of at least 0")
    final = folder / str(version)
    if final.exists():
        raise UserError(
            f"{final}: this version exists and is never touched; allowed: a free number, such "
            f"as {next_version(folder)}"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale_drafts(folder)
        # In the same folder, so that the rename stays on one file system; the dot keeps
        # TF Serving, which looks for numbers, away.
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder))
    except OSError as error:
        raise UserError(f"{folder}: can't be written ({error.strerror})") from error
    try:
        with _disk_faults(folder):
            yield draft
            draft.chmod(0o755)  # mkdtemp makes it private; a server runs as somebody else
        _rename(draft, final)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def prune(folders: Iterable[Path], keep: int, new: int) -> list[int]:
    """Removes the oldest versions, each from all folders.

    Args:
        folders: those that hold the versions of one model.
        keep: how many versions stay, at least 1.
        new: stays in any case, also if its number is not among the highest.

    Returns:
        The versions that are gone, in order.

    Raises:
        UserError: one can't be removed.
    """
    folders = list(folders)
    oldest_first = sorted(set().union(*map(versions_in, folders)))
    gone = [number for number in oldest_first[:-keep] if number != new]
    for folder, number in itertools.product(folders, gone):
        version = folder / str(number)
        if not version.is_dir():
            continue
        try:
            # First out of sight in one step: a server that loads it now must not find half.
            hidden = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder))
            shutil.rmtree(version.rename(hidden / version.name))
            hidden.rmdir()
        except OSError as error:
            raise UserError(f"{version}: can't be removed ({error.strerror})") from error
    return gone


def _rename(draft: Path, final: Path) -> None:
    try:
        os.rename(draft, final)
    except OSError as error:
        raise UserError(
            f"{final}: can't be published ({error.strerror}); another export may have taken "
            f"the number, a free one is {next_version(final.parent)}"
        ) from error


def _remove_stale_drafts(folder: Path) -> None:
    for draft in folder.glob(".draft-*"):
        if time.time() - draft.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def _disk_faults(folder: Path) -> Iterator[None]:
    """Turns what Python and TensorFlow raise on a full disk into one line."""
    try:
        yield
    except (OSError, tf.errors.ResourceExhaustedError) as error:
        # TensorFlow says "<file>; <reason> [Op:<name>]".
        text = error.strerror if isinstance(error, OSError) else error.message
        reason = str(text).rpartition("; ")[2].partition(" [Op:")[0]
        raise UserError(
            f"{folder}: can't be written ({reason}); nothing was published. Make room, or "
            "export to another folder"
        ) from error


def check_agreement(kind: str, expected: object, got: object, tolerance: float) -> float:
    """Checks that an exported model answers as the Keras model does.

    Args:
        kind: what was exported, for the message.
        expected: probabilities of the Keras model, [n, classes].
        got: those of the exported model.
        tolerance: largest difference allowed.

    Returns:
        The largest difference.

    Raises:
        RuntimeError: they differ by more.
    """
    import numpy as np

    difference = float(np.max(np.abs(np.asarray(expected) - np.asarray(got))))
    if not difference <= tolerance:
        raise RuntimeError(
            f"{kind}: its probabilities differ from the Keras model's by {difference:.2g}, "
            f"allowed is {tolerance:g}; it was not published"
        )
    return difference
