"""Show the log records of the package on standard output."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from typing_extensions import override


class _TerminalHandler(logging.Handler):
    """Prints messages as plain lines, and "warning: " before warnings."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        # To the sys.stdout of this moment. Errors aren't handled: main reports a broken pipe.
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        print(prefix + record.getMessage(), flush=True)


@contextlib.contextmanager
def shown_logs() -> Iterator[None]:
    """Show what the package logs, from INFO up, while the body runs."""
    logger, handler = logging.getLogger("keras_srt"), _TerminalHandler()
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
