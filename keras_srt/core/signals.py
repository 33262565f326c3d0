"""Signals that wait for a place where nothing is half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def deferred_signals(numbers: Sequence[signal.Signals]) -> Iterator[Callable[[], bool]]:
    """These signals are remembered; the second of a kind is handled as it was before.

    An exception in the middle of a training step would leave weights that are half updated, or
    one step ahead of their count. And where it comes up inside TensorFlow's C code, which asks
    Python for an attribute and takes any exception for a no, TensorFlow ends the process.

    Args:
        numbers: of the signals. Outside the main thread, where Python handles none, nothing
            is remembered.

    Yields:
        Whether one came.

    Example:
        >>> with deferred_signals([signal.SIGINT]) as came:
        ...     signal.raise_signal(signal.SIGINT)
        ...     came()
        True
    """
    came: list[int] = []
    held = numbers if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in held}

    def remember(number: int, _: object) -> None:
        came.append(number)
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, remember)
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
