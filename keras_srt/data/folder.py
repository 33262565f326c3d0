"""Your own images: class folders with optional unlabeled images, or a CSV file."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import BeforeValidator, Field
from typing_extensions import override

from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.files import absolute
from keras_srt.core.images import BadImage
from keras_srt.core.registry import component
from keras_srt.core.tensorflow import tf
from keras_srt.core.validation import real, whole
from keras_srt.data.image_lists import (
    Listing,
    list_classes,
    list_part,
    list_tree,
    read_csv,
    similar_name,
)
from keras_srt.data.parallel import parallel_map
from keras_srt.data.photo_decoder import PhotoDecoder, Resize, read_bytes, read_error_reason
from keras_srt.data.record_reader import call_python
from keras_srt.data.records import Records
from keras_srt.data.source import Dataset, DatasetInfo, Images, Source, check_memory

logger = logging.getLogger(__name__)

# Photos per shard. Any read order costs the same, so shards are short.
_SHARD = 16
_UNLABELED = -1

Pixels = Annotated[int, whole(8, 1024)]
Byte = Annotated[int, whole(0, 255)]


class FolderFiles(NamedTuple):
    """The paths of a folder source's files.

    Attributes:
        labeled: The labeled files.
        unlabeled: The unlabeled files.
        test: The test files; None if some labeled files are held out instead.
    """

    labeled: Listing
    unlabeled: tuple[Path, ...]
    test: Listing | None


def _as_pair(size: Any) -> Any:
    return (size, size) if isinstance(size, int) and not isinstance(size, bool) else size


@component
class Folder(Source):
    """Your own images, from folders or from a CSV file.

    Set either `labeled` or `csv`. Formats are PNG, JPEG, BMP, GIF, WebP, TIFF (of several frames,
    the first) and, with the package pillow-heif, HEIC. EXIF rotation is applied; gray, palette,
    transparent, CMYK and 16-bit images are converted. Relative paths are relative to
    `--data-dir`, or to the current folder without it. Unreadable labeled files are left out; an
    unreadable unlabeled file is replaced by the next readable one. Both are logged and listed in
    the report.

    Args:
        labeled: Folder with one subfolder per class, which may have subfolders of its own.
        unlabeled: Folder with unlabeled images at any depth; null for none. It may be a folder
            above the labeled or test images, which are then not taken.
        csv: UTF-8 file with the columns `path` and `label`; a blank label marks an unlabeled image.
        test: Test images, in the same form as `labeled` or `csv`; null to hold out labeled images.
        test_share: Share of each class that is held out if `test` is null. Files are chosen by
            their SHA-256: copies of a file stay together, and new files do not move others.
        size: Height and width in pixels, or one number for both.
        channels: 1 for gray, 3 for color.
        resize: "stretch" to the size, as servers and devices do; "crop" the center; "fit" the
            whole photo, with margins.
        background: [red, green, blue], 0 to 255, behind transparent pixels and in margins; null
            ignores transparency, as servers and devices do, and makes margins black.
        max_unreadable: The run fails if more files than that are unreadable.

    Example:
        >>> Folder(labeled="photos", size=96).size
        (96, 96)
    """

    name: ClassVar[str] = "folder"
    is_private: ClassVar[bool] = True

    labeled: Annotated[str, Field(min_length=1)] | None = None
    unlabeled: Annotated[str, Field(min_length=1)] | None = None
    csv: Annotated[str, Field(min_length=1)] | None = None
    test: Annotated[str, Field(min_length=1)] | None = None
    test_share: Annotated[float, real(0.01, 0.9)] = 0.2
    size: Annotated[tuple[Pixels, Pixels], BeforeValidator(_as_pair)] = (224, 224)
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
    def decoder(self) -> PhotoDecoder:
        """The decoder from photo files to model inputs."""
        return PhotoDecoder(self.size, self.channels, self.resize, self.background)

    def list_files(self, data_dir: Path | None) -> FolderFiles:
        """List the files without opening an image.

        Raises:
            UserError: A folder or file is missing or malformed.
        """
        paths = {
            part: _resolve(given, f"data.{part}", data_dir)
            for part in ("csv", "labeled", "unlabeled", "test")
            if (given := getattr(self, part)) is not None
        }
        if self.csv is not None:
            labeled, unlabeled = read_csv(paths["csv"], "data.csv").separate()
        else:
            others = [paths[part] for part in ("unlabeled", "test") if part in paths]
            labeled = list_classes(paths["labeled"], "data.labeled", others)
            unlabeled = ()
            if self.unlabeled is not None:
                unlabeled = list_tree(paths["unlabeled"], "data.unlabeled")
        if len(labeled.classes) < 2:
            raise UserError(
                f"data: got {len(labeled.classes)} classes "
                f"({', '.join(labeled.classes) or 'no label'}); allowed: at least two"
            )
        test = None if self.test is None else list_part(paths["test"], "data.test")
        if test is not None and (unknown := sorted(set(test.labels) - set(labeled.classes))):
            raise UserError(
                f"data.test: got the class {unknown[0]!r}; allowed: those of the labeled images, "
                f"{', '.join(labeled.classes[:20])}"
            )
        taken = {*labeled.files, *(test.files if test is not None else ())}
        return FolderFiles(labeled, tuple(path for path in unlabeled if path not in taken), test)

    @override
    def open(self, data_dir: Path | None = None) -> Dataset:
        return FolderDataset(self, self.list_files(data_dir))


def _resolve(path: str, setting: str, data_dir: Path | None) -> Path:
    """Return the absolute path of a part of a dataset.

    Raises:
        UserError: The path is relative, and there is no such file or folder.
    """
    relative = Path(path).expanduser()
    given = (data_dir or Path()) / relative
    # The files of a CSV that is a link are beside the link.
    found = absolute(given.parent, "data") / given.name
    if not relative.is_absolute() and not os.path.exists(found):
        base = "the current folder" if data_dir is None else f"--data-dir {data_dir}"
        raise UserError(
            f"{setting}: {found} doesn't exist{similar_name(found)}; {path!r} is relative to "
            f"{base}; give --data-dir DIR, the folder that has {path!r}, or run the command in it"
        )
    return found


class FolderDataset(Dataset):
    """The images of a `Folder` source; opening it decodes every labeled and every test image.

    The labeled training images come first. They, and the test images, are sorted by their
    SHA-256, which mixes the classes.

    Args:
        settings: The source.
        files: Its files.

    Raises:
        UserError: More than `max_unreadable` files are unreadable.
    """

    def __init__(self, settings: Folder, files: FolderFiles) -> None:
        self._settings, self._decoder = settings, settings.decoder
        self._skipped = _SkippedFiles(settings.max_unreadable)
        class_names = files.labeled.classes
        labeled = self._readable(files.labeled, "checking")
        if files.test is not None:
            train, test = labeled, self._readable(files.test, "checking test")
        else:
            hashes = hold_out([(file.sha256, file.label) for file in labeled], settings.test_share)
            train = [file for file in labeled if file.sha256 not in hashes]
            test = [file for file in labeled if file.sha256 in hashes]
        self._test = tuple(file.path for file in test)
        self._test_labels = np.int32([class_names.index(file.label) for file in test])
        ids = [class_names.index(file.label) for file in train]
        self.known_labels: np.ndarray = np.int32([*ids, *[_UNLABELED] * len(files.unlabeled)])
        self._train = _TrainingPhotos(
            (*(file.path for file in train), *files.unlabeled),
            len(train),
            self._decoder,
            self._skipped,
        )
        self.info = DatasetInfo(
            title=f"own images, {settings.labeled or settings.csv}",
            input_shape=(*settings.size, settings.channels),
            class_names=class_names,
            num_train=len(self.known_labels),
            num_test=len(test),
            num_labeled=len(train),
            fingerprint=_fingerprint(train, files.unlabeled),
        )

    @override
    def load_train(self) -> Images:
        count = len(self.known_labels)
        check_memory(count * int(np.prod(self.info.input_shape)))
        photos = parallel_map(self._train.decode, range(count), "reading")
        return Images(self._stack(photos, count), self.known_labels)

    @override
    def load_test(self) -> Images:
        decoder = self._decoder
        photos = parallel_map(lambda file: _reread(file, decoder), self._test, "reading test")
        return Images(self._stack(photos, len(self._test)), self._test_labels)

    @override
    def records(self) -> Records:
        return FolderRecords(self._train, self.known_labels)

    @override
    def skipped(self) -> dict[str, str]:
        return self._skipped.reasons()

    def _readable(self, listing: Listing, title: str) -> list[_LabeledFile]:
        """The labeled files of a listing that are readable, sorted by their SHA-256."""
        decoder, found = self._decoder, []
        pairs = list(zip(listing.files, listing.labels, strict=True))
        results = parallel_map(lambda pair: _check(pair[0], decoder), pairs, title)
        for (path, label), result in zip(pairs, results, strict=True):
            if isinstance(result, BadImage):
                self._skipped.add(path, str(result))
            elif label:
                found.append(_LabeledFile(result, label, path))
        return sorted(found)

    def _stack(self, photos: Any, count: int) -> np.ndarray:
        images = np.empty((count, *self.info.input_shape), np.uint8)
        for number, photo in enumerate(photos):
            images[number] = photo
        return images


class FolderRecords(Records):
    """Training photos that are read on demand; a record is the index of its photo.

    Args:
        photos: The photos.
        labels: int32 [n], -1 for an unlabeled photo.
    """

    def __init__(self, photos: _TrainingPhotos, labels: np.ndarray) -> None:
        count = len(labels)
        full, rest = divmod(count, _SHARD)
        self.lengths = (_SHARD,) * full + ((rest,) if rest else ())
        self.image_shape = (*photos.decoder.size, photos.decoder.channels)
        self._labels = labels
        self._count, self._decode = count, photos.decode

    @override
    def read(self, shard: tf.Tensor, first: tf.Tensor) -> tf.data.Dataset:
        start = shard * _SHARD
        end = tf.minimum(start + _SHARD, self._count)
        return tf.data.Dataset.range(start + first, end)

    @override
    def image(self, record: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(call_python(self._decode, record), self.image_shape)

    @override
    def label(self, record: tf.Tensor) -> tf.Tensor:
        return tf.gather(tf.constant(self._labels), record)


class _TrainingPhotos:
    """Training photos by index, the labeled ones first.

    An unreadable unlabeled photo is replaced by the next readable one. The replacement depends on
    the files alone, so that a resumed training sees the same images.
    """

    def __init__(
        self, files: Sequence[Path], num_labeled: int, decoder: PhotoDecoder, skipped: _SkippedFiles
    ) -> None:
        self.decoder = decoder
        self._files, self._num_labeled, self._skipped = files, num_labeled, skipped

    def decode(self, index: int) -> np.ndarray:
        """Decode a photo: uint8 [height, width, channels].

        Raises:
            UserError: A labeled photo has become unreadable, or too many unlabeled ones are.
        """
        first, end = self._num_labeled, len(self._files)
        if index < first:
            return _reread(self._files[index], self.decoder)
        for candidate in (*range(index, end), *range(first, index)):
            try:
                return self.decoder.read(self._files[candidate])
            except (BadImage, OSError) as error:
                self._skipped.add(self._files[candidate], read_error_reason(error))
        raise UserError("data: none of the unlabeled images can be read")


class _SkippedFiles:
    """The unreadable files; each is logged once, and too many of them are an error."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._reasons: dict[Path, str] = {}
        self._lock = threading.Lock()

    def add(self, path: Path, reason: str) -> None:
        """Add a file.

        Raises:
            UserError: There are more files than allowed.
        """
        with self._lock:
            if path in self._reasons:
                return
            self._reasons[path] = reason
            # Other threads may already have added files beyond the limit.
            if len(self._reasons) <= self._limit + 1:
                logger.warning("skipped %s: %s", path, reason)
            if len(self._reasons) > self._limit:
                raise UserError(
                    f"data: {len(self._reasons)} images can't be read, the last of them {path} "
                    f"({reason}); allowed: at most max_unreadable = {self._limit}; `keras-srt data "
                    "check CONFIG` lists them all"
                )

    def reasons(self) -> dict[str, str]:
        """Return the reasons by path."""
        with self._lock:
            return {str(path): reason for path, reason in self._reasons.items()}


class _LabeledFile(NamedTuple):
    sha256: str
    label: str
    path: Path


def hold_out(files: Sequence[tuple[str, str]], share: float) -> set[str]:
    """Choose the files of the test set: those of each class with the lowest hashes.

    Args:
        files: The SHA-256 and the class of each file.
        share: The share of each class; at least one file if the class has several.

    Returns:
        The hashes of the chosen files. If files of two classes have the same content, both files
        are held out.

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


def _fingerprint(labeled: Sequence[_LabeledFile], unlabeled: Sequence[Path]) -> str:
    """A digest of the labeled files' contents, and of the unlabeled files' names and sizes."""
    digest = hashlib.sha256()
    for file in labeled:
        digest.update(f"{file.sha256} {file.label}\n".encode())
    for path in unlabeled:
        size = path.stat().st_size if path.is_file() else None
        digest.update(f"{path.name} {size}\n".encode())
    return digest.hexdigest()


def _check(path: Path, decoder: PhotoDecoder) -> str | BadImage:
    """The SHA-256 of a readable photo, or the error."""
    try:
        data = read_bytes(path)
        decoder.decode(data)
    except (BadImage, OSError) as error:
        return BadImage(read_error_reason(error))
    return hashlib.sha256(data).hexdigest()


def _reread(path: Path, decoder: PhotoDecoder) -> np.ndarray:
    """Decode a photo that was readable when the dataset was opened.

    Raises:
        UserError: The photo has become unreadable.
    """
    try:
        return decoder.read(path)
    except (BadImage, OSError) as error:
        raise UserError(
            f"data: {path} can't be read any more ({read_error_reason(error)}); the files changed "
            "during the run; start again"
        ) from error
