"""The share of an attack on a batch that is done, reported from inside the attack's loops."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")

# Reports in a shorter time are left out: progress bars are updated once a second.
_SECONDS = 0.5


class BatchProgress:
    """The share of an attack on a batch that is done.

    An attack of several searches gives each its part, and a search reports its own progress from
    0 to 1. The reported share never falls.

    Example:
        >>> progress, shares = BatchProgress(), []
        >>> with progress.shown_by(shares.append, seconds=0):
        ...     for search in progress.each(("first", "second")):
        ...         progress.report(0.5)
        >>> shares
        [0.25, 0.5, 0.75]
    """

    def __init__(self) -> None:
        self._start, self._end = 0.0, 1.0
        self._show: Callable[[float], None] | None = None
        self._shown, self._shown_at, self._seconds = 0.0, 0.0, _SECONDS

    @contextmanager
    def shown_by(
        self, show: Callable[[float], None], seconds: float | None = None
    ) -> Iterator[None]:
        """Show the progress of a batch.

        Args:
            show: Called with the share that is done, from 0 to 1.
            seconds: Least time between two calls; by default half a second.
        """
        self._start, self._end = 0.0, 1.0
        self._show, self._seconds = show, _SECONDS if seconds is None else seconds
        self._shown, self._shown_at = 0.0, time.perf_counter()
        try:
            yield
        finally:
            self._show = None

    def report(self, share: float) -> None:
        """Report the share of the current part that is done, from 0 to 1."""
        if self._show is None or time.perf_counter() - self._shown_at < self._seconds:
            return
        done = self._start + share * (self._end - self._start)
        if done > self._shown:
            self._shown, self._shown_at = done, time.perf_counter()
            self._show(done)

    @contextmanager
    def part(self, start: float, end: float) -> Iterator[None]:
        """Count what is reported meanwhile as the part from `start` to `end` of the current one."""
        before = self._start, self._end
        first, length = before[0], before[1] - before[0]
        self._start, self._end = first + start * length, first + end * length
        try:
            self.report(0.0)
            yield
        finally:
            self._start, self._end = before

    def each(self, items: Sequence[Item]) -> Iterator[Item]:
        """Iterate over parts of equal length."""
        for number, item in enumerate(items):
            with self.part(number / len(items), (number + 1) / len(items)):
                yield item
