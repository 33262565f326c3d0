"""The .tflite files that `keras-srt export` writes: a model, its labels and its checksum."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

LABELS = "labels.txt"
IDENTIFIER = b"TFL3"  # at offset 4 of the flatbuffer


class BadModel(ValueError):
    """A model file that can't be used; the text names it and says why."""


def add_labels(path: str | Path, class_names: Sequence[str]) -> None:
    """Appends `labels.txt` to a .tflite file, which every interpreter still loads.

    It becomes a zip archive behind the model; the archive's comment is the SHA-256 of the
    model, because interpreters don't check what they load and a damaged one can crash them.

    Args:
        path: the file.
        class_names: in the order of their ids; line i names class i.
    """
    checksum = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(LABELS, labels_text(class_names))
        archive.comment = checksum.encode("ascii")


def labels_text(class_names: Sequence[str]) -> str:
    r"""One line for each class.

    Example:
        >>> labels_text(["cat", "two\nlines"])
        'cat\ntwo lines\n'
    """
    return "".join(" ".join(name.splitlines()) + "\n" for name in class_names)


def read_labels(path: str | Path) -> list[str]:
    """Checks a .tflite file without loading it, and reads the labels inside.

    Args:
        path: the file.

    Returns:
        The class names in the order of their ids.

    Raises:
        BadModel: there is no such file, it is damaged, or it has no labels inside.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise BadModel(f"{path}: can't be read ({error.strerror})") from error
    if content[4:8] != IDENTIFIER:
        raise BadModel(f"{path}: is no TFLite model (bytes 4 to 8 are {content[4:8]!r}, not TFL3)")
    try:
        with zipfile.ZipFile(path) as archive:
            labels = archive.read(LABELS).decode("utf-8").splitlines()
            end_of_model = min(member.header_offset for member in archive.infolist())
            expected = archive.comment.decode("ascii")
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BadModel(
            f"{path}: has no {LABELS} inside, so it is cut off or not a file that "
            "`keras-srt export` wrote; copy it again"
        ) from error
    if expected and hashlib.sha256(content[:end_of_model]).hexdigest() != expected:
        raise BadModel(f"{path}: is damaged (its checksum is another); copy it again")
    return labels
