"""Known, harmless lines that native code writes to the terminal, dropped where they arise."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

# What TensorFlow writes while it is imported and looks for devices, and that a user can't act
# on: CPU hints, absent CUDA and TensorRT, its own double registration of the CUDA plug-ins.
TENSORFLOW_STARTUP_NOISE = (
    r"oneDNN custom operations are on"
    r"|Could not find cuda drivers"
    r"|Unable to register cu(DNN|FFT|BLAS) factory"
    r"|This TensorFlow binary is optimized to use available CPU instructions"
    r"|To enable the following instructions: .* rebuild TensorFlow"
    r"|TF-TRT Warning: Could not find TensorRT"
    # The library of the NVIDIA driver isn't there; other failures are told.
    r"|failed call to cuInit: .*UNKNOWN ERROR \(303\)"
    r"|All log messages before absl::InitializeLog\(\) is called are written to STDERR"
)


@contextmanager
def filter_stderr(pattern: str) -> Iterator[None]:
    """Holds file descriptor 2 back for a while and drops the lines that match.

    Native libraries write there directly, out of reach of `logging` and `warnings`.
    Every other line is passed on when the block ends, also when it fails.

    Args:
        pattern: a regular expression that is searched in each line.

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
