"""Versions of an exported model: whole numbers, published by rename, never touched again."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keras_srt.checks import UserError


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
    taken = [
        int(path.name)
        for folder in folders
        if folder.is_dir()
        for path in folder.iterdir()
        if path.name.isdecimal()
    ]
    return max(taken, default=0) + 1


@contextmanager
def published(folder: Path, version: int) -> Iterator[Path]:
    """Gives a draft folder that becomes `folder/version` when the block ends well.

    Args:
        folder: holds the versions; made if absent.
        version: a whole number that is free.

    Yields:
        The draft; it is removed if the block fails.

    Raises:
        UserError: the version is negative or exists already, or the folder can't be written.
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
        # In the same folder, so that the rename stays on one file system; the dot keeps
        # TF Serving, which looks for numbers, away.
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder))
    except OSError as error:
        raise UserError(f"{folder}: can't be written ({error.strerror})") from error
    try:
        yield draft
        draft.chmod(0o755)  # mkdtemp makes it private; a server runs as somebody else
        try:
            os.rename(draft, final)
        except OSError as error:
            raise UserError(
                f"{final}: can't be published ({error.strerror}); another export may have taken "
                f"the number, a free one is {next_version(folder)}"
            ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


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
