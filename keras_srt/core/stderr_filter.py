"""A filter for known, harmless lines that native code writes to stderr."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Lines that TensorFlow writes while it is imported and lists devices, and that need no action:
# CPU hints, missing CUDA and TensorRT, duplicate registration of CUDA plug-ins.
TENSORFLOW_STARTUP_NOISE = (
    r"oneDNN custom operations are on"
    r"|Could not find cuda drivers"
    r"|Unable to register cu(DNN|FFT|BLAS) factory"
    r"|This TensorFlow binary is optimized to use available CPU instructions"
    r"|To enable the following instructions: .* rebuild TensorFlow"
    r"|TF-TRT Warning: Could not find TensorRT"
    # No NVIDIA driver is installed; other failures remain visible.
    r"|failed call to cuInit: .*UNKNOWN ERROR \(303\)"
    r"|All log messages before absl::InitializeLog\(\) is called are written to STDERR"
)


class UnfilteredStderr:
    """Standard error for progress bars, which `filter_stderr` doesn't capture.

    Bars are written by threads of their own, so that they move while native code runs.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._descriptor: int | None = None  # the original one, during a filter

    def write(self, text: str) -> int:
        """Write text at once."""
        with self._lock:
            if self._descriptor is None:
                return sys.stderr.write(text)
            encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
            return os.write(self._descriptor, text.encode(encoding, "backslashreplace"))

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return sys.stderr.isatty() if self._descriptor is None else os.isatty(self._descriptor)

    def fileno(self) -> int:
        """Return the file descriptor."""
        return sys.stderr.fileno() if self._descriptor is None else self._descriptor

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)

    @contextmanager
    def kept_on(self, descriptor: int) -> Iterator[None]:
        """Write to a descriptor while the body runs; in nested filters to the first one's."""
        before = self._descriptor
        with self._lock:
            self._descriptor = descriptor if before is None else before
        try:
            yield
        finally:
            with self._lock:
                self._descriptor = before


UNFILTERED_STDERR = UnfilteredStderr()
# Clears the line of a progress bar.
_CLEAR_LINE = "\r\x1b[K"


@contextmanager
def filter_stderr(pattern: str) -> Iterator[None]:
    """Capture file descriptor 2 during the block, and drop the lines that match a pattern.

    Native libraries write to the descriptor directly, bypassing `logging` and `warnings`. The
    other lines are written when the block ends, even if it fails. `UNFILTERED_STDERR` is written
    to at once.

    Args:
        pattern: A regular expression that is searched in each line.

    Example:
        >>> with filter_stderr("oneDNN custom operations are on"):
        ...     pass
    """
    noise = re.compile(pattern)
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        with tempfile.TemporaryFile() as held, UNFILTERED_STDERR.kept_on(terminal):
            os.dup2(held.fileno(), 2)
            try:
                yield
            finally:
                sys.stderr.flush()
                os.dup2(terminal, 2)
                held.seek(0)
                _write(held.read().decode(errors="replace"), noise)
    finally:
        os.close(terminal)


def _write(text: str, noise: re.Pattern[str]) -> None:
    """Write the lines that aren't noise to stderr, over the line of a progress bar."""
    kept = [line for line in text.splitlines(keepends=True) if not noise.search(line)]
    if kept and sys.stderr.isatty():
        kept.insert(0, _CLEAR_LINE)
    sys.stderr.write("".join(kept))
