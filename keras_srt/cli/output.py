"""What commands print: log records and results, without control characters, and lost output."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from typing_extensions import override

from keras_srt.core.errors import UserError
from keras_srt.core.formatting import printable
from keras_srt.core.log_levels import RESULT
from keras_srt.core.progress import above_bars


def show(text: str, stream: TextIO | None = None) -> None:
    """Print lines, with escapes for control characters in them.

    Args:
        text: One or several lines; names in it may be any text.
        stream: The stream; None for standard output.

    Raises:
        BrokenPipeError: The reader of the stream is gone.
        UserError: The stream can't be written.
    """
    stream = sys.stdout if stream is None else stream
    encoding = getattr(stream, "encoding", None) or "utf-8"
    lines = [printable(line, encoding) for line in text.split("\n")]
    try:
        print("\n".join(lines), file=stream, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        discard(stream)
        raise UserError(f"output: can't be written ({error.strerror})") from error


def discard(stream: TextIO) -> None:
    """Discard all further output, which Python would otherwise try to write at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def show_error(text: str) -> None:
    """Print lines to standard error, if it can be written."""
    with contextlib.suppress(OSError, ValueError, UserError):
        show(text, sys.stderr)


def prepare_streams() -> None:
    """Open standard streams that are closed, and escape what their encoding lacks.

    Otherwise, the next file that is opened, such as a checkpoint, would get the output.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if mode == "r" else os.O_WRONLY)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _Lossy:
    """A stream that drops what can't be written, as after its terminal was closed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            discard(self._stream)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            discard(self._stream)


@contextlib.contextmanager
def lossy_output() -> Iterator[None]:
    """Drop output that can't be written while the body runs, for commands that save their work."""
    with (
        contextlib.redirect_stdout(_Lossy(sys.stdout)),
        contextlib.redirect_stderr(_Lossy(sys.stderr)),
    ):
        yield


class _TerminalHandler(logging.Handler):
    """Prints messages as plain lines, and "warning: " before warnings."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        # To the sys.stdout of this moment. Errors aren't handled: main reports a broken pipe.
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        with above_bars():
            show(prefix + record.getMessage())


@contextlib.contextmanager
def shown_logs(quiet: bool = False) -> Iterator[None]:
    """Show what the package logs, from INFO up, while the body runs.

    Args:
        quiet: Whether to show only results and warnings, and no progress.
    """
    logger, handler = logging.getLogger("keras_srt"), _TerminalHandler()
    level, propagate = logger.level, logger.propagate
    logger.setLevel(RESULT if quiet else logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
