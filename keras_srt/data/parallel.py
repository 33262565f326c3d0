"""Many files through a function, on all cores, with a progress bar."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# Items that wait for each thread: results come in order, so that one may take long.
_WAITING = 16


def on_all_cores(function: Callable[[T], R], items: Sequence[T], title: str) -> Iterator[R]:
    """Yields `function(item)` for each item, in order; decoding images, threads run at once.

    Args:
        function: of an item; what it raises is raised here.
        items: all of them.
        title: of the progress bar, which has an ETA and is shown on a terminal only.

    Yields:
        The results. If the caller stops, no further item is begun.
    """
    from tqdm import tqdm

    threads = os.cpu_count() or 1
    bar = tqdm(
        total=len(items), desc=title, unit="image", leave=False, file=sys.stderr, disable=None
    )
    with bar, ThreadPoolExecutor(threads) as pool:
        waiting = []
        for number in range(len(items) + threads * _WAITING):
            if number < len(items):
                waiting.append(pool.submit(function, items[number]))
            if number >= threads * _WAITING and waiting:
                yield waiting.pop(0).result()
                bar.update()
