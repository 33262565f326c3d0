"""Deferred handling of signals."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

# `kill` and clusters send SIGTERM; a closed terminal sends SIGHUP, which Windows lacks.
TERMINATION_SIGNALS = [
    signal.Signals[name] for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
]


@contextmanager
def deferred_signals(numbers: Sequence[signal.Signals]) -> Iterator[Callable[[], bool]]:
    """Record signals instead of handling them; a repeated signal is handled as usual.

    An exception in the middle of a training step would leave partly updated weights, or weights
    one step ahead of the step count. Raised inside TensorFlow's C code, it can abort the process.

    Args:
        numbers: The signals. Outside the main thread, where Python does not handle signals, none
            are recorded.

    Yields:
        A function that returns whether a signal was received.

    Example:
        >>> with deferred_signals([signal.SIGINT]) as received:
        ...     signal.raise_signal(signal.SIGINT)
        ...     received()
        True
    """
    received: list[int] = []
    in_main_thread = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in numbers if in_main_thread}

    def record(number: int, _: object) -> None:
        received.append(number)
        signal.signal(number, handlers[signal.Signals(number)])

    for number in handlers:
        signal.signal(number, record)
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
