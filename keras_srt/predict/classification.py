"""Classification of files in batches, a few of which are processed concurrently."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path

from keras_srt.core.images import MAX_BYTES
from keras_srt.predict.backends import Classifier, Prediction

# Limits of a batch, which bound request size and memory.
BATCH_IMAGES = 32
_BATCH_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Result:
    """An image file and its prediction."""

    file: Path
    prediction: Prediction


def classify_files(files: Iterable[Path], classifier: Classifier) -> Iterator[list[Result]]:
    """Classify image files, with only a few batches in memory.

    Args:
        files: The files; consumed lazily.
        classifier: The classifier.

    Yields:
        The results of a batch, in order; an unreadable file has a prediction with an error.
    """
    waiting: deque = deque()
    # Unlike an executor, its threads don't delay the exit of the process at Ctrl-C.
    with ThreadPool(classifier.concurrency) as pool:
        for batch in _batches(files):
            waiting.append(pool.apply_async(_classify, (batch, classifier)))
            while waiting and (len(waiting) > classifier.concurrency or waiting[0].ready()):
                yield waiting.popleft().get()
        while waiting:
            yield waiting.popleft().get()


def _batches(files: Iterable[Path]) -> Iterator[list[tuple[Path, bytes | str]]]:
    """Yield batches of files with their content, or with the reason why they can't be read."""
    batch: list[tuple[Path, bytes | str]] = []
    size = 0
    for file in files:
        content = _read(file)
        batch.append((file, content))
        size += len(content)
        if len(batch) == BATCH_IMAGES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _read(file: Path) -> bytes | str:
    try:
        status = os.stat(file)
        if stat.S_ISDIR(status.st_mode):
            return "is a folder that can't be listed"
        if not stat.S_ISREG(status.st_mode):
            return "is not a regular file"
        if status.st_size > MAX_BYTES:
            return f"has {status.st_size:,} bytes; allowed: at most {MAX_BYTES:,}"
        return file.read_bytes()
    except OSError as error:
        return f"can't be read ({error.strerror})"


def _classify(batch: list[tuple[Path, bytes | str]], classifier: Classifier) -> list[Result]:
    readable = [content for _, content in batch if isinstance(content, bytes)]
    predictions = iter(classifier.classify(readable) if readable else ())
    return [
        Result(file, next(predictions) if isinstance(content, bytes) else Prediction(error=content))
        for file, content in batch
    ]
