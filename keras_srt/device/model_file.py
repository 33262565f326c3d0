"""The format of exported .tflite files: a model with its labels and its checksum."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

LABELS, SETTINGS = "labels.txt", "training.json"
IDENTIFIER = b"TFL3"  # at offset 4 of the flatbuffer


class BadModel(ValueError):
    """An unusable model file; the message names the file and the reason."""


def add_labels(path: str | Path, class_names: Sequence[str]) -> None:
    """Append a zip archive with `labels.txt` to a .tflite file, which interpreters still load.

    The archive's comment is the SHA-256 of the model: a damaged model can crash an interpreter,
    and interpreters have no check of their own.

    Args:
        path: The .tflite file.
        class_names: The class names in the order of their ids.
    """
    checksum = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(LABELS, labels_text(class_names))
        archive.comment = checksum.encode("ascii")


def is_trainable(path: str | Path) -> bool:
    """Return whether a file has the settings of training, as `model_train.tflite` does."""
    with zipfile.ZipFile(path) as archive:
        return SETTINGS in archive.namelist()


def labels_text(class_names: Sequence[str]) -> str:
    r"""Return the content of `labels.txt`: one line per class.

    Example:
        >>> labels_text(["cat", "two\nlines"])
        'cat\ntwo lines\n'
    """
    return "".join(" ".join(name.splitlines()) + "\n" for name in class_names)


def read_labels(path: str | Path) -> list[str]:
    """Check a .tflite file without loading the model, and read its labels.

    Args:
        path: The .tflite file.

    Returns:
        The class names in the order of their ids.

    Raises:
        BadModel: The file is missing, damaged, or has no labels.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise BadModel(f"{path}: can't be read ({error.strerror})") from error
    if content[4:8] != IDENTIFIER:
        raise BadModel(
            f"{path}: is not a TFLite model (bytes 4 to 8 are {content[4:8]!r}, not TFL3)"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            labels = archive.read(LABELS).decode("utf-8").splitlines()
            end_of_model = min(member.header_offset for member in archive.infolist())
            expected = archive.comment.decode("ascii")
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BadModel(
            f"{path}: has no {LABELS} inside; it is truncated, or `keras-srt export` did not "
            "write it; copy it again"
        ) from error
    if expected and hashlib.sha256(content[:end_of_model]).hexdigest() != expected:
        raise BadModel(f"{path}: is damaged (its checksum does not match); copy it again")
    return labels
