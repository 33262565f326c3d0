"""Versions of an exported model: numbered folders, published by rename and never changed."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from keras_srt.core.errors import UserError
from keras_srt.core.files import fsync
from keras_srt.core.scratch_folders import scratch_folder
from keras_srt.core.tensorflow import tf
from keras_srt.core.version_folders import version_folders

_DRAFT = ".draft-"


def next_version(*folders: Path) -> int:
    """Return the lowest number above every version in any of the folders.

    Args:
        *folders: Folders whose subfolders are versions; may be absent.

    Returns:
        The number; 1 if there is no version yet.

    Example:
        >>> next_version(Path("no-such-folder"))
        1
    """
    return max(set().union(*map(version_folders, folders)), default=0) + 1


@contextmanager
def publishing(folder: Path, version: int) -> Iterator[Path]:
    """Yield a draft folder that is renamed to `folder/version` if the block succeeds.

    Args:
        folder: Folder of the versions; created if absent.
        version: An unused number, at least 0.

    Yields:
        The draft; it is removed if the block fails.

    Raises:
        UserError: The version is negative or exists, the folder can't be written, or the disk
            is full.
    """
    if version < 0:
        raise UserError(f"version: got {version}; allowed: a whole number of at least 0")
    final = folder / str(version)
    if final.exists() or version in version_folders(folder):
        raise UserError(
            f"{final}: this version exists and is never changed; allowed: an unused number, such "
            f"as {next_version(folder)}"
        )
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # In the same folder, because a rename must not cross file systems. TF Serving ignores
            # the name, because it is not a number.
            draft = stack.enter_context(scratch_folder(folder, _DRAFT))
        except OSError as error:
            raise UserError(f"{folder}: can't be written ({error.strerror})") from error
        with _translate_disk_errors(folder):
            yield draft
        publish_draft(draft, final)


def prune(folders: Iterable[Path], keep: int, new: int) -> list[int]:
    """Remove the oldest versions from all folders.

    Args:
        folders: Folders that contain the versions of one model.
        keep: Number of versions to keep, at least 1.
        new: A version that is kept even if its number is not among the highest.

    Returns:
        The removed versions, sorted.

    Raises:
        UserError: A version can't be removed.
    """
    found = {folder: version_folders(folder) for folder in folders}
    oldest_first = sorted(set().union(*found.values()))
    removed = [number for number in oldest_first[:-keep] if number != new]
    for (folder, versions), number in itertools.product(found.items(), removed):
        version = versions.get(number)
        if version is None:
            continue
        try:
            # Rename first: a server that loads the version now must not find part of it.
            with scratch_folder(folder, _DRAFT) as hidden:
                version.rename(hidden / version.name)
        except OSError as error:
            raise UserError(f"{version}: can't be removed ({error.strerror})") from error
    return removed


def publish_draft(draft: Path, final: Path) -> None:
    """Rename a complete draft to its version.

    Raises:
        UserError: The version exists, or the folder can't be written.
    """
    try:
        draft.chmod(0o755)  # it was made private; a server may run as another user
        os.rename(draft, final)
        fsync(final.parent)
    except OSError as error:
        raise UserError(
            f"{final}: can't be published ({error.strerror}); another export may have used "
            f"the number, an unused one is {next_version(final.parent)}"
        ) from error


@contextmanager
def _translate_disk_errors(folder: Path) -> Iterator[None]:
    """Translate the errors of Python and TensorFlow for a full disk into a UserError."""
    try:
        yield
    except (OSError, tf.errors.ResourceExhaustedError) as error:
        # TensorFlow's message is "<file>; <reason> [Op:<name>]".
        text = error.strerror if isinstance(error, OSError) else error.message
        reason = str(text).rpartition("; ")[2].partition(" [Op:")[0]
        raise UserError(
            f"{folder}: can't be written ({reason}); nothing was published. Free disk space "
            "or export to another folder"
        ) from error
