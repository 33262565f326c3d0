"""Signals that end a process as an interruption, for commands that save their state."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

from keras_srt.core.signals import TERMINATION_SIGNALS


@contextlib.contextmanager
def signals_as_ctrl_c() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM, and on SIGHUP unless `nohup` ignores it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python sets signal handlers only in the main thread
        return
    before = {number: signal.getsignal(number) for number in TERMINATION_SIGNALS}
    for number, handler in before.items():
        if number == signal.SIGTERM or handler != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
