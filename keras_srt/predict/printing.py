"""Classification of files: `keras-srt predict`."""

from __future__ import annotations

import itertools
import shutil
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from keras_srt.predict.backends import Answer, Classifier, open_savedmodel, open_server, open_tflite
from keras_srt.predict.classification import BATCH_IMAGES, Result, classify_files
from keras_srt.predict.image_files import check_sources, find_images
from keras_srt.predict.result_table import Table, json_line, printable
from keras_srt.predict.sorting import Sorter

__all__ = [
    "Answer",
    "Classifier",
    "Result",
    "Sorter",
    "check_sources",
    "classify_files",
    "find_images",
    "open_savedmodel",
    "open_server",
    "open_tflite",
    "predict",
]


def predict(
    images: Sequence[str],
    classifier: Classifier,
    top: int = 3,
    as_json: bool = False,
    sorter: Sorter | None = None,
) -> int:
    """Classifies images, prints the answers and files the images by class.

    Answers go to stdout while the work goes on. Images that fail are named on stderr, and so
    is the progress, if that is a terminal and the images are more than a batch.

    Args:
        images: files, folders and globs.
        classifier: to ask.
        top: classes to show for each image, at least 1.
        as_json: print a JSON object for each image, instead of a table.
        sorter: files the images.

    Returns:
        The number of images that failed.

    Raises:
        UserError: the server is gone, or the images can't be filed.
    """
    skip = sorter.folder if sorter is not None else None
    first = list(itertools.islice(find_images(images, skip), BATCH_IMAGES + 1))
    batches = classify_files(find_images(images, skip), classifier)
    count = failed = 0
    with _progress(images, skip, many=len(first) > BATCH_IMAGES) as progress:
        for results, lines in _shown(batches, first, classifier.title, top, as_json):
            _write(lines, sys.stdout)
            bad = [result for result in results if result.answer.error]
            _write([_complaint(result) for result in bad], sys.stderr)
            count, failed = count + len(results), failed + len(bad)
            for result in results:
                if sorter is not None and not result.answer.error:
                    sorter.add(result.file, result.answer)
            progress.update(len(results))
    if sorter is not None:
        print(f"{count - failed:,} images filed into {sorter.folder}", file=sys.stderr)
    if failed:
        print(f"{failed:,} of {count:,} images failed", file=sys.stderr)
    return failed


def _shown(
    batches: Iterable[list[Result]], first: Sequence[Path], title: str, top: int, as_json: bool
) -> Iterator[tuple[list[Result], list[str]]]:
    """Each batch with the lines to print for it, the first one with those of the head."""
    table = None
    for results in batches:
        if as_json:
            yield results, [json_line(result, top, title) for result in results]
            continue
        head = []
        if table is None:
            table = _table(first, results, top)
            head = [f"model: {printable(title, sys.stdout.encoding)}", "", table.head()]
        yield results, [*head, *(line for result in results for line in table.rows(result))]


def _table(first: Sequence[Path], results: Iterable[Result], top: int) -> Table:
    classes = next((result.answer.classes for result in results if result.answer.classes), ())
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    more = len(first) > BATCH_IMAGES
    return Table(map(str, first), more, classes, top, width, sys.stdout.encoding)


def _complaint(result: Result) -> str:
    return "error: " + printable(f"{result.file}: {result.answer.error}", sys.stderr.encoding)


def _write(lines: Sequence[str], stream: TextIO) -> None:
    """Prints above the progress, all at once, since that is drawn again each time."""
    if lines and stream.isatty():
        tqdm.write("\n".join(lines), file=stream)
    elif lines:
        print("\n".join(lines), file=stream, flush=True)


def _progress(images: Sequence[str], skip: Path | None, many: bool) -> tqdm:
    """A progress bar, if that is wanted: for many images, on a terminal."""
    progress = tqdm(unit=" images", disable=None if many else True, dynamic_ncols=True)
    if not progress.disable:

        def count() -> None:
            # Beside the work, because counting a million files takes its time, too.
            progress.total = sum(1 for _ in find_images(images, skip, ordered=False))

        threading.Thread(target=count, daemon=True).start()
    return progress
