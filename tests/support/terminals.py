"""A pseudo-terminal as standard error."""

import contextlib
import fcntl
import os
import select
import struct
import termios
from unittest import mock


class Screen:
    """What is written to the terminal."""

    def __init__(self, descriptor):
        self._descriptor = descriptor

    def read(self, seconds=0.0):
        """Return what was written since the last call, after waiting for it."""
        text = b""
        while select.select([self._descriptor], [], [], seconds)[0]:
            text += os.read(self._descriptor, 65536)
            seconds = 0.0
        return text.decode()

    def read_until(self, *parts):
        """Return what is written until all parts were."""
        text = ""
        while not all(part in text for part in parts):
            more = self.read(10.0)
            assert more, f"{text!r} lacks some of {parts}"
            text += more
        return text


@contextlib.contextmanager
def terminal(columns):
    """Replace file descriptor 2 and sys.stderr by a terminal, and yield its `Screen`."""
    before, (screen, own) = os.dup(2), os.openpty()
    fcntl.ioctl(own, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    os.dup2(own, 2)
    try:
        with (
            open(2, "w", encoding="utf-8", closefd=False) as stream,
            mock.patch("sys.stderr", stream),
        ):
            yield Screen(screen)
    finally:
        os.dup2(before, 2)
        for descriptor in (before, screen, own):
            os.close(descriptor)
