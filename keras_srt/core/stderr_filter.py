"""A filter for known, harmless lines that native code writes to stderr."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def filter_stderr(pattern: str) -> Iterator[None]:
    """Capture file descriptor 2 during the block, and drop the lines that match a pattern.

    Native libraries write to the descriptor directly, bypassing `logging` and `warnings`. The
    other lines are written when the block ends, even if it fails.

    Args:
        pattern: A regular expression that is searched in each line.

    Example:
        >>> with filter_stderr("oneDNN custom operations are on"):
        ...     pass
    """
    noise = re.compile(pattern)
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            held.seek(0)
            for line in held.read().decode(errors="replace").splitlines(keepends=True):
                if not noise.search(line):
                    sys.stderr.write(line)
