"""Classification of files with results printed as they arrive."""

from __future__ import annotations

import itertools
import shutil
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from keras_srt.core.formatting import printable
from keras_srt.predict.backends import Classifier
from keras_srt.predict.classification import BATCH_IMAGES, Result, classify_files
from keras_srt.predict.image_files import find_images
from keras_srt.predict.result_table import Table, json_line
from keras_srt.predict.sorting import Sorter


def print_predictions(
    images: Sequence[str],
    classifier: Classifier,
    top: int = 3,
    as_json: bool = False,
    sorter: Sorter | None = None,
) -> int:
    """Classify images, write results to stdout as they arrive, and sort the images by class.

    Errors go to stderr, and so does a progress bar, if stderr is a terminal and there is more
    than one batch.

    Args:
        images: Files, folders and globs.
        classifier: The classifier.
        top: Number of classes per image, at least 1.
        as_json: Whether to write one JSON object per image instead of a table.
        sorter: Sorts the images into folders.

    Returns:
        The number of images that failed.

    Raises:
        UserError: The server became unreachable, or the images can't be sorted.
    """
    skip = sorter.folder if sorter is not None else None
    first = list(itertools.islice(find_images(images, skip), BATCH_IMAGES + 1))
    batches = classify_files(find_images(images, skip), classifier)
    count = failed = 0
    with _progress(images, skip, many=len(first) > BATCH_IMAGES) as progress:
        for results, lines in _format(batches, first, classifier.title, top, as_json):
            _write(lines, sys.stdout)
            errors = [result for result in results if result.prediction.error]
            _write([_error_line(result) for result in errors], sys.stderr)
            count, failed = count + len(results), failed + len(errors)
            for result in results:
                if sorter is not None and not result.prediction.error:
                    sorter.add(result.file, result.prediction)
            progress.update(len(results))
    if sorter is not None:
        _write([f"{count - failed:,} images sorted into {sorter.folder}"], sys.stderr)
    if failed:
        _write([f"{failed:,} of {count:,} images failed"], sys.stderr)
    return failed


def _format(
    batches: Iterable[list[Result]], first: Sequence[Path], title: str, top: int, as_json: bool
) -> Iterator[tuple[list[Result], list[str]]]:
    """Yield each batch with its lines; the lines of the first batch include the table head."""
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
    named = (result.prediction.classes for result in results if result.prediction.classes)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    more = len(first) > BATCH_IMAGES
    return Table(map(str, first), more, next(named, ()), top, width, sys.stdout.encoding)


def _error_line(result: Result) -> str:
    text = f"{result.file}: {result.prediction.error}"
    return "error: " + printable(text, sys.stderr.encoding)


def _write(lines: Sequence[str], stream: TextIO) -> None:
    """Write lines at once, above the progress bar on a terminal."""
    if lines and stream.isatty():
        tqdm.write("\n".join(lines), file=stream)
    elif lines:
        stream.write("\n".join(lines) + "\n")
        stream.flush()


def _progress(images: Sequence[str], skip: Path | None, many: bool) -> tqdm:
    """Make a progress bar, disabled for few images and without a terminal."""
    progress = tqdm(unit=" images", disable=None if many else True, dynamic_ncols=True)
    if not progress.disable:

        def count() -> None:
            # In a thread, because counting a million files takes long.
            progress.total = sum(1 for _ in find_images(images, skip, ordered=False))

        threading.Thread(target=count, daemon=True).start()
    return progress
