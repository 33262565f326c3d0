"""A parallel map with a progress bar."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from keras_srt.core.progress import ProgressBar

T = TypeVar("T")
R = TypeVar("R")

# Pending items per thread, so that a slow item does not stall the others.
_PENDING = 16


def parallel_map(
    function: Callable[[T], R], items: Sequence[T], title: str
) -> Generator[R, None, None]:
    """Yield `function(item)` for each item, in order, computed by one thread per core.

    Threads suffice for decoding images, during which Pillow releases the GIL.

    Args:
        function: Called with each item; its exceptions propagate to the caller.
        items: The items.
        title: The title of the progress.

    Yields:
        The results. When the caller stops iterating, no further item is started.
    """
    threads = os.cpu_count() or 1
    with ProgressBar(title, len(items), "image") as bar, ThreadPoolExecutor(threads) as pool:
        pending = []
        for number in range(len(items) + threads * _PENDING):
            if number < len(items):
                pending.append(pool.submit(function, items[number]))
            if number >= threads * _PENDING and pending:
                yield pending.pop(0).result()
                bar.advance()
