"""A check of all files of a folder dataset: readability, duplicates, sizes and classes."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.core.formatting import format_count, printable
from keras_srt.core.images import BadImage, open_image
from keras_srt.data import DatasetInfo, Folder, FolderFiles, hold_out, parallel_map
from keras_srt.data.photo_decoder import (
    MAX_BYTES,
    MAX_PIXELS,
    read_bytes,
    read_error_reason,
    to_upright_rgb,
)

# Fewer images in a class than _FEW give a warning; fewer than _NEEDED, an error.
_FEW, _NEEDED = 10, 1
# Files of a finding that are listed in the table and in the JSON.
_SHOWN, _LISTED = 2, 1000
# Photos below this fraction of the model's input size give a warning.
_TINY = 0.5


class CheckedFile(NamedTuple):
    """The result for one file.

    Attributes:
        path: The file.
        part: "labeled", "unlabeled" or "test".
        label: The class, or "".
        size: Width and height in upright orientation; None if the file can't be read.
        sha256: SHA-256 of the file's bytes.
        pixels: SHA-256 of the decoded photo, equal for all lossless formats.
        reason: Why the file can't be read, or "".
    """

    path: Path
    part: str
    label: str
    size: tuple[int, int] | None = None
    sha256: str = ""
    pixels: str = ""
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Finding:
    """A problem and the files that have it.

    Attributes:
        kind: A short name.
        text: An explanation.
        is_error: Whether it should be fixed before training.
        items: One line per case.
    """

    kind: str
    text: str
    is_error: bool
    items: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the finding for the JSON report, with at most 1,000 cases."""
        return {
            "kind": self.kind,
            "severity": "error" if self.is_error else "warning",
            "text": self.text,
            "count": len(self.items),
            "items": list(self.items[:_LISTED]),
        }


class Checked(NamedTuple):
    """The result of a check.

    Attributes:
        counts: Files in each part.
        classes: Readable labeled and test images of each class.
        findings: Findings, errors first.
        labels: Class ids of the training images in the order of the training, int32 [n]; -1 for
            an unlabeled image.
    """

    counts: dict[str, int]
    classes: dict[str, tuple[int, int]]
    findings: tuple[Finding, ...]
    labels: np.ndarray

    @property
    def has_errors(self) -> bool:
        """Whether a finding should be fixed before training."""
        return any(finding.is_error for finding in self.findings)

    def with_error(self, kind: str, text: str, items: Sequence[str]) -> Checked:
        """Return the result with one more error, before all other findings."""
        return self._replace(findings=(Finding(kind, text, True, tuple(items)), *self.findings))

    def describe(self, source: Folder) -> DatasetInfo:
        """Describe the dataset as opening it would do, for the plan of a training."""
        labeled, test = (sum(column) for column in zip(*self.classes.values(), strict=True))
        return DatasetInfo(
            title="own images",
            input_shape=(*source.size, source.channels),
            class_names=tuple(self.classes),
            num_train=labeled + self.counts.get("unlabeled", 0),
            num_test=test,
            num_labeled=labeled,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the JSON report."""
        return {
            "schema": 1,
            "images": self.counts,
            "classes": {
                name: {"labeled": labeled, "test": test}
                for name, (labeled, test) in self.classes.items()
            },
            "findings": [finding.as_json() for finding in self.findings],
        }


def check(source: Folder, data_dir: Path | None) -> Checked:
    """Open and check every file of a dataset.

    Args:
        source: The dataset.
        data_dir: The base of relative paths; None for the current folder.

    Returns:
        Counts and findings.

    Raises:
        UserError: A folder or file is missing or invalid.
    """
    parts = source.list_files(data_dir)
    files = list(parallel_map(_look, list(_files(parts)), "checking"))
    if parts.test is None:
        files = _with_test(files, source.test_share)
    readable = [found for found in files if found.size is not None]
    findings = [
        *_unreadable(files),
        *_same(readable),
        *_small(readable, source.size),
        *_classes(readable, parts.labeled.classes),
    ]
    counts: dict[str, int] = defaultdict(int)
    for found in files:
        counts[found.part] += 1
    return Checked(
        dict(counts),
        _count(readable, parts.labeled.classes),
        tuple(sorted((f for f in findings if f.items), key=lambda f: not f.is_error)),
        _training_labels(readable, parts),
    )


def _files(parts: FolderFiles) -> Iterator[CheckedFile]:
    for path, label in zip(*parts.labeled, strict=True):
        yield CheckedFile(path, "labeled", label)
    for path in parts.unlabeled:
        yield CheckedFile(path, "unlabeled", "")
    for path, label in zip(*parts.test, strict=True) if parts.test is not None else ():
        yield CheckedFile(path, "test", label)


def _look(file: CheckedFile) -> CheckedFile:
    try:
        data = read_bytes(file.path)
        with open_image(data, MAX_BYTES, MAX_PIXELS) as image:
            photo = to_upright_rgb(image)
    except (BadImage, OSError) as error:
        return file._replace(reason=read_error_reason(error))
    pixels = hashlib.sha256(repr(photo.size).encode())
    pixels.update(np.asarray(photo).data)
    sha256 = hashlib.sha256(data).hexdigest()
    return file._replace(size=photo.size, sha256=sha256, pixels=pixels.hexdigest())


def _with_test(files: Sequence[CheckedFile], share: float) -> list[CheckedFile]:
    """Mark the labeled files that training would hold out as test."""
    known = [f for f in files if f.part == "labeled" and f.size is not None]
    held_out = hold_out([(f.sha256, f.label) for f in known], share)
    return [f._replace(part="test") if f.label and f.sha256 in held_out else f for f in files]


def _unreadable(files: Sequence[CheckedFile]) -> Iterator[Finding]:
    bad = [f"{f.path}: {f.reason}" for f in files if f.size is None]
    yield Finding("unreadable", "can't be read; training skips them", True, tuple(bad))


def _same(readable: Sequence[CheckedFile]) -> Iterator[Finding]:
    groups: dict[str, list[CheckedFile]] = defaultdict(list)
    for found in readable:
        groups[found.pixels].append(found)
    labels, leaks, both, copies = [], [], [], []
    for same in groups.values():
        parts = {f.part for f in same}
        line = " = ".join(str(f.path) for f in same[:4]) + (" = …" if len(same) > 4 else "")
        if len(classes := sorted({f.label for f in same if f.label})) > 1:
            labels.append(f"{line} ({', '.join(classes)})")
        if "test" in parts and len(parts) > 1:
            leaks.append(line)
        elif len(parts) > 1:
            both.append(line)
        elif len(same) > 1:
            copies.append(line)
    yield Finding("two labels", "the same image in several classes", True, tuple(labels))
    text = "the same image in training and test; the test accuracy would be too high"
    yield Finding("in train and test", text, True, tuple(leaks))
    yield Finding("in both parts", "the same image labeled and unlabeled", False, tuple(both))
    yield Finding("copies", "the same image several times in a part", False, tuple(copies))


def _small(readable: Sequence[CheckedFile], size: tuple[int, int]) -> Iterator[Finding]:
    least = _TINY * min(size)
    sizes = [(f.path, *f.size) for f in readable if f.size is not None]
    tiny = [
        f"{path}: {width} x {height}"
        for path, width, height in sizes
        if width < least or height < least
    ]
    text = f"less than half of the model's {size[0]} x {size[1]} pixels"
    yield Finding("tiny", text, False, tuple(tiny))


def _classes(readable: Sequence[CheckedFile], names: Sequence[str]) -> Iterator[Finding]:
    counts = {name: labeled for name, (labeled, _) in _count(readable, names).items()}
    missing = [f"{name}: {count}" for name, count in counts.items() if count < _NEEDED]
    few = [f"{name}: {count}" for name, count in counts.items() if _NEEDED <= count < _FEW]
    text = "classes without a training image"
    yield Finding("class too small", text, True, tuple(missing))
    yield Finding("small class", f"classes with fewer than {_FEW} images", False, tuple(few))


def _count(readable: Sequence[CheckedFile], names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Count readable training and test images of each class."""
    counts = {name: [0, 0] for name in names}
    for found in readable:
        if found.label:
            counts[found.label][found.part == "test"] += 1
    return {name: (labeled, test) for name, (labeled, test) in counts.items()}


def _training_labels(readable: Sequence[CheckedFile], parts: FolderFiles) -> np.ndarray:
    """Class ids as an opened dataset has them: labeled images come first, sorted by SHA-256."""
    known = sorted((f.sha256, f.label, f.path) for f in readable if f.part == "labeled")
    ids = [parts.labeled.classes.index(label) for _, label, _ in known]
    return np.int32([*ids, *[-1] * len(parts.unlabeled)])


def table(checked: Checked) -> str:
    """Format the result as text; paths are never shortened, so that they can be copied."""
    counts = ", ".join(f"{count:,} {part}" for part, count in checked.counts.items())
    sizes = sorted(labeled for labeled, _ in checked.classes.values())
    each = f"{sizes[0]:,} to {sizes[-1]:,} training images"
    if sizes[0] == sizes[-1]:
        each = f"{format_count(sizes[0], 'training image')} each"
    lines = [f"images    {counts}", f"classes   {len(sizes)}, with {each}"]
    for finding in checked.findings:
        level = "error" if finding.is_error else "warning"
        lines.append(f"{level:<9} {finding.kind}: {len(finding.items):,} ({finding.text})")
        lines += [f"          {printable(str(item))}" for item in finding.items[:_SHOWN]]
        if len(finding.items) > _SHOWN:
            more = len(finding.items) - _SHOWN
            lines.append(f"          … {more:,} more (--json FILE lists them)")
    if not checked.findings:
        lines.append("ok        no problems found")
    return "\n".join(lines)


def checked_source(dataset: Any) -> Folder:
    """Return the dataset of a config if it is a folder.

    Raises:
        UserError: It is another dataset.
    """
    if not isinstance(dataset, Folder):
        raise UserError(
            f"data check: got the dataset {dataset.name!r}; allowed: 'folder', whose files are "
            'your own ({"data": {"source": "folder", "labeled": DIR, "unlabeled": DIR}})'
        )
    return dataset
