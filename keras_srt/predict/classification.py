"""Files -> answers: read, batched and asked for a few batches ahead, in order."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path

from keras_srt.core.images import MAX_BYTES
from keras_srt.predict.backends import Answer, Classifier

# A batch is full at either; both keep a request and the memory small.
BATCH_IMAGES = 32
_BATCH_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Result:
    """An image file and what the model says of it."""

    file: Path
    answer: Answer


def classify_files(files: Iterable[Path], classifier: Classifier) -> Iterator[list[Result]]:
    """Classifies image files, holding a few batches of them at a time.

    Args:
        files: taken one after the other, as far as needed.
        classifier: to ask.

    Yields:
        The results of a batch, in order; a file that can't be read has an error as its answer.
    """
    waiting: deque = deque()
    # Its threads don't hold the process back at Ctrl-C, as those of an executor do.
    with ThreadPool(classifier.concurrency) as pool:
        for batch in _batches(files):
            waiting.append(pool.apply_async(_classify, (batch, classifier)))
            while waiting and (len(waiting) > classifier.concurrency or waiting[0].ready()):
                yield waiting.popleft().get()
        while waiting:
            yield waiting.popleft().get()


def _batches(files: Iterable[Path]) -> Iterator[list[tuple[Path, bytes | str]]]:
    """Files with their content, or with the reason why they can't be read."""
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
    answers = iter(classifier.classify(readable) if readable else ())
    return [
        Result(file, next(answers) if isinstance(content, bytes) else Answer(error=content))
        for file, content in batch
    ]
