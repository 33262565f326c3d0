"""Own images: class folders and a tree of unlabeled ones, or one CSV."""

from __future__ import annotations

import functools
import hashlib
import stat
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import BeforeValidator, Field

from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.images import BadImage
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.core.validation import real, whole
from keras_srt.data.listing import Listing, list_classes, list_part, list_tree, read_csv
from keras_srt.data.parallel import on_all_cores
from keras_srt.data.photos import MAX_BYTES, Framing, Resize
from keras_srt.data.reading import read_by_python
from keras_srt.data.records import Records
from keras_srt.data.sources import DatasetInfo, Images, Source, check_memory

# Photos that are read in a row before others may follow; short, as any order costs the same.
_SHARD = 16
# What is unlabeled has this label.
UNLABELED = -1

Pixels = Annotated[int, whole(8, 1024)]
Byte = Annotated[int, whole(0, 255)]


class Parts(NamedTuple):
    """The files of a folder source by name, none of them opened.

    Attributes:
        labeled: with their classes.
        unlabeled: those whose label nobody knows.
        test: those to evaluate on; None where some labeled ones are held out for that.
    """

    labeled: Listing
    unlabeled: tuple[Path, ...]
    test: Listing | None


class _Contents(NamedTuple):
    """What there is: the training part with its labeled files first, and the test part."""

    class_names: tuple[str, ...]
    train: tuple[Path, ...]
    labels: np.ndarray
    num_labeled: int
    test: tuple[Path, ...]
    test_labels: np.ndarray
    fingerprint: str


class _Skipped:
    """Files that can't be read: named once, counted, and too many of them are an error."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._reasons: dict[Path, str] = {}
        self._lock = threading.Lock()

    def add(self, path: Path, reason: str) -> None:
        """Notes a file.

        Raises:
            UserError: there are more than allowed.
        """
        with self._lock:
            if path in self._reasons:
                return
            self._reasons[path] = reason
            if len(self._reasons) <= self._most + 1:  # threads may be a few files ahead
                print(f"skipped   {path}: {reason}", file=sys.stderr, flush=True)
            if len(self._reasons) > self._most:
                raise UserError(
                    f"data: {len(self._reasons)} images can't be read, the last of them {path} "
                    f"({reason}); allowed: at most max_unreadable = {self._most}; `keras-srt data "
                    "check CONFIG` lists them all"
                )

    def listed(self) -> dict[str, str]:
        """Reasons by path."""
        with self._lock:
            return {str(path): reason for path, reason in self._reasons.items()}


class _Photos:
    """The training part, decoded by index.

    An unlabeled photo that can't be read is passed over: the next one that can stands for it, which
    depends on the files alone, so that a training that goes on sees what it would have seen.
    """

    def __init__(
        self, files: Sequence[Path], num_labeled: int, framing: Framing, skipped: _Skipped
    ) -> None:
        self.files, self.framing = files, framing
        self._num_labeled, self._skipped = num_labeled, skipped

    def decode(self, index: int) -> np.ndarray:
        """uint8 [height, width, channels].

        Raises:
            UserError: a labeled photo can't be read any more, or too many unlabeled ones can't.
        """
        first, end = self._num_labeled, len(self.files)
        if index < first:
            return read_labeled(self.files[index], self.framing)
        for place in (*range(index, end), *range(first, index)):
            try:
                return read_photo(self.files[place], self.framing)
            except (BadImage, OSError) as error:
                self._skipped.add(self.files[place], reason_of(error))
        raise UserError("data: none of the unlabeled images can be read")


class FolderRecords(Records):
    """A training part whose photos are read when they are needed.

    Args:
        photos: by index.
        labels: int32, one for each, -1 for an unlabeled one.
    """

    def __init__(self, photos: _Photos, labels: np.ndarray) -> None:
        count = len(labels)
        full, rest = divmod(count, _SHARD)
        self.lengths = (_SHARD,) * full + ((rest,) if rest else ())
        self.image_shape = (*photos.framing.size, photos.framing.channels)
        self.known_labels = labels
        self._count, self._decode = count, photos.decode

    def read(self, shard: tf.Tensor, first: tf.Tensor) -> tf.data.Dataset:
        """Indices, which is all there is to a record."""
        start = shard * _SHARD
        end = tf.minimum(start + _SHARD, self._count)
        return tf.data.Dataset.range(start + first, end)

    def image(self, record: tf.Tensor) -> tf.Tensor:
        """The photo, read and brought to its size."""
        return tf.ensure_shape(read_by_python(self._decode, record), self.image_shape)

    def label(self, record: tf.Tensor) -> tf.Tensor:
        """The class id, -1 for none."""
        return tf.gather(tf.constant(self.known_labels), record)


def _pair(size: Any) -> Any:
    return (size, size) if isinstance(size, int) and not isinstance(size, bool) else size


@component
class Folder(Source):
    """Your own images, from folders or from a CSV.

    Give either `labeled` or `csv`. PNG, JPEG, BMP and the first frame of GIF; turned as EXIF says;
    gray, palettes, transparency and 16 bits are converted. Relative paths are relative to
    `--data-dir`, or else to the current folder. A labeled file that can't be read is left out, an
    unlabeled one is passed over when it is its turn; both are named.

    Args:
        labeled: folder with a folder for each class; images may lie deeper in it.
        unlabeled: folder with any tree of images; null for none.
        csv: UTF-8 file with the columns `path` and `label`; a blank label is an unlabeled image.
        test: images to evaluate on, as `labeled` or as `csv`; null to hold some labeled ones out.
        test_share: share of each class held out where `test` is null; by the files' SHA-256, so
            that copies of a file fall on one side, and new files move no other.
        size: height and width in pixels, or one number for both.
        channels: 1 for gray, 3 for color.
        resize: "stretch" to the size, as servers and devices do; "crop" the middle; "fit" it
            in whole, with margins.
        background: [red, green, blue], 0 to 255, behind transparent pixels and in margins; null
            ignores transparency, as servers and devices do, and has black margins.
        max_unreadable: more unreadable files than that end the run.

    Example:
        >>> Folder(labeled="photos", size=96).size
        (96, 96)
    """

    name: ClassVar[str] = "folder"

    labeled: Annotated[str, Field(min_length=1)] | None = None
    unlabeled: Annotated[str, Field(min_length=1)] | None = None
    csv: Annotated[str, Field(min_length=1)] | None = None
    test: Annotated[str, Field(min_length=1)] | None = None
    test_share: Annotated[float, real(0.01, 0.9)] = 0.2
    size: Annotated[tuple[Pixels, Pixels], BeforeValidator(_pair)] = (224, 224)
    channels: Literal[1, 3] = 3
    resize: Resize = "stretch"
    background: tuple[Byte, Byte, Byte] | None = None
    max_unreadable: Annotated[int, whole(0)] = 100

    def __post_init__(self) -> None:
        if (self.labeled is None) == (self.csv is None):
            given = "neither" if self.csv is None else "both"
            raise InvalidSettings(
                [f"labeled: got {given} of labeled and csv; allowed: exactly one of them"]
            )
        if self.csv is not None and self.unlabeled is not None:
            raise InvalidSettings(
                [
                    f"unlabeled: got {self.unlabeled!r} with a csv; allowed: null, and lines with "
                    "a blank label in the csv"
                ]
            )

    @property
    def framing(self) -> Framing:
        """How photos become images."""
        return Framing(self.size, self.channels, self.resize, self.background)

    def parts(self, data_dir: Path | None) -> Parts:
        """The files by name; none is opened.

        Raises:
            UserError: a folder or a file is missing, or not as it has to be.
        """

        def at(path: str) -> Path:
            return (data_dir or Path()) / Path(path).expanduser()

        if self.csv is not None:
            labeled, unlabeled = read_csv(at(self.csv), "data.csv").divided()
        else:
            labeled, unlabeled = list_classes(at(str(self.labeled)), "data.labeled"), ()
            if self.unlabeled is not None:
                unlabeled = list_tree(at(self.unlabeled), "data.unlabeled")
        _check_classes(labeled)
        test = None if self.test is None else list_part(at(self.test), "data.test")
        if test is not None and (unknown := sorted(set(test.labels) - set(labeled.classes))):
            raise UserError(
                f"data.test: got the class {unknown[0]!r}; allowed: those of the labeled images, "
                f"{', '.join(labeled.classes[:20])}"
            )
        return Parts(labeled, unlabeled, test)

    def info(self, data_dir: Path | None) -> DatasetInfo:
        """Counts of what can be read; the first call opens every labeled and test image."""
        contents = self._contents(data_dir)
        return DatasetInfo(
            title=f"own images, {self.labeled or self.csv}",
            input_shape=(*self.size, self.channels),
            class_names=contents.class_names,
            num_train=len(contents.train),
            num_test=len(contents.test),
            num_labeled=contents.num_labeled,
            fingerprint=contents.fingerprint,
        )

    def load_train(self, data_dir: Path | None) -> Images:
        """The training part, the labeled images first; -1 is the label of the others.

        Raises:
            InvalidSettings: it is larger than 4 GiB.
        """
        contents, photos = self._contents(data_dir), self._photos(data_dir)
        check_memory(len(contents.train) * int(np.prod(self.size)) * self.channels)
        decoded = on_all_cores(photos.decode, range(len(contents.train)), "reading")
        return Images(_stacked(decoded, len(contents.train), self), contents.labels)

    def load_test(self, data_dir: Path | None) -> Images:
        """The test part, in an order that mixes the classes."""
        contents, framing = self._contents(data_dir), self.framing
        decoded = on_all_cores(
            lambda file: read_labeled(file, framing), contents.test, "reading test"
        )
        return Images(_stacked(decoded, len(contents.test), self), contents.test_labels)

    def records(self, data_dir: Path | None) -> Records:
        """The training part, read as it is needed."""
        return FolderRecords(self._photos(data_dir), self._contents(data_dir).labels)

    def skipped(self) -> dict[str, str]:
        """Why files were skipped, by their paths."""
        return self._skipped.listed()

    def _photos(self, data_dir: Path | None) -> _Photos:
        contents = self._contents(data_dir)
        return _Photos(contents.train, contents.num_labeled, self.framing, self._skipped)

    @functools.cached_property
    def _skipped(self) -> _Skipped:
        return _Skipped(self.max_unreadable)

    @functools.cached_property
    def _opened(self) -> dict[Path | None, _Contents]:
        return {}

    def _contents(self, data_dir: Path | None) -> _Contents:
        """Found once: this opens all labeled and test images."""
        if data_dir not in self._opened:
            self._opened[data_dir] = self._find(self.parts(data_dir))
        return self._opened[data_dir]

    def _find(self, parts: Parts) -> _Contents:
        names = parts.labeled.classes
        known = self._readable(parts.labeled, "checking")
        if parts.test is None:
            held_out = hold_out([(file.sha256, file.label) for file in known], self.test_share)
        else:
            held_out = set()
        test = [file for file in known if file.sha256 in held_out]
        train = [file for file in known if file.sha256 not in held_out]
        if parts.test is not None:
            test = self._readable(parts.test, "checking test")
        digest = hashlib.sha256()
        for file in train:
            digest.update(f"{file.sha256} {file.label}\n".encode())
        for path in parts.unlabeled:
            size = path.stat().st_size if path.is_file() else None
            digest.update(f"{path.name} {size}\n".encode())
        ids = [names.index(file.label) for file in train]
        return _Contents(
            names,
            (*(file.path for file in train), *parts.unlabeled),
            np.int32([*ids, *[UNLABELED] * len(parts.unlabeled)]),
            len(train),
            tuple(file.path for file in test),
            np.int32([names.index(file.label) for file in test]),
            digest.hexdigest(),
        )

    def _readable(self, listing: Listing, title: str) -> list[_Readable]:
        """The labeled files that can be read, sorted by content: mixed, whatever their names."""
        framing, found = self.framing, []
        pairs = list(zip(listing.files, listing.labels, strict=True))
        for (path, label), result in zip(
            pairs, on_all_cores(lambda pair: _try(pair[0], framing), pairs, title), strict=True
        ):
            if isinstance(result, BadImage):
                self._skipped.add(path, str(result))
            elif label:
                found.append(_Readable(result, label, path))
        return sorted(found)


class _Readable(NamedTuple):
    sha256: str
    label: str
    path: Path


def _check_classes(labeled: Listing) -> None:
    if len(labeled.classes) < 2:
        raise UserError(
            f"data: got {len(labeled.classes)} classes ({', '.join(labeled.classes) or 'no label'})"
            "; allowed: at least two"
        )


def hold_out(files: Sequence[tuple[str, str]], share: float) -> set[str]:
    """Which files the test part gets: of each class those with the lowest hashes.

    Args:
        files: SHA-256 and class of each.
        share: of each class; at least one file where it has several.

    Returns:
        Their hashes; a hash that also has another class may take a file of that one along.

    Example:
        >>> sorted(hold_out([("5", "a"), ("1", "a"), ("3", "b"), ("7", "b"), ("9", "b")], 0.4))
        ['1', '3']
    """
    chosen: set[str] = set()
    for name in {label for _, label in files}:
        hashes = sorted({sha256 for sha256, label in files if label == name})
        if len(hashes) > 1:
            chosen.update(hashes[: max(1, round(share * len(hashes)))])
    return chosen


def read_bytes(path: Path) -> bytes:
    """The bytes of a file that may be an image.

    Raises:
        BadImage: it is too large, or a pipe, say.
        OSError: it can't be read.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for, a device has no end
        raise BadImage("is no regular file")
    if found.st_size > MAX_BYTES:
        raise BadImage(f"has {found.st_size:,} bytes; allowed: at most {MAX_BYTES:,}")
    return path.read_bytes()


def read_photo(path: Path, framing: Framing) -> np.ndarray:
    """A photo, uint8 [height, width, channels].

    Raises:
        BadImage: it isn't one, or it is damaged.
        OSError: it can't be read.
    """
    return framing.decode(read_bytes(path))


def read_labeled(path: Path, framing: Framing) -> np.ndarray:
    """A photo that could be read when the run began.

    Raises:
        UserError: it can't be read any more.
    """
    try:
        return read_photo(path, framing)
    except (BadImage, OSError) as error:
        raise UserError(
            f"data: {path} can't be read any more ({reason_of(error)}); the files changed while "
            "they were used; start again"
        ) from error


def reason_of(error: BadImage | OSError) -> str:
    """Why a file can't be read, in words."""
    return str(error.strerror or error) if isinstance(error, OSError) else str(error)


def _try(path: Path, framing: Framing) -> str | BadImage:
    """The SHA-256 of a file that is a photo, or why it isn't one."""
    try:
        data = read_bytes(path)
        framing.decode(data)
    except (BadImage, OSError) as error:
        return BadImage(reason_of(error))
    return hashlib.sha256(data).hexdigest()


def _stacked(decoded: Any, count: int, source: Folder) -> np.ndarray:
    images = np.empty((count, *source.size, source.channels), np.uint8)
    for number, image in enumerate(decoded):
        images[number] = image
    return images
