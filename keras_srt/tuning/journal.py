"""An append-only journal of the events of a search."""

from __future__ import annotations

import json
import logging
import os
import zlib
from pathlib import Path
from typing import Any

from keras_srt.core.errors import UserError

_log = logging.getLogger(__name__)

Event = dict[str, Any]


class Journal:
    """A file to which each event is appended and synced before the search continues.

    keras-tuner does not write its own files atomically, and they lack the state of its random
    draws. From this journal, the search is replayed without the trainings. The journal ends at
    the first incomplete or damaged line; later events are recovered from the trial folders.

    Args:
        path: The file, in an existing folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Event]:
        """Return the events before the first damaged line, and truncate the file there.

        Raises:
            UserError: The file can't be read or written.
        """
        try:
            content = self._path.read_bytes() if self._path.exists() else b""
            events, length = [], 0
            for line in content.splitlines(keepends=True):
                event = _parse(line)
                if event is None:
                    break
                events.append(event)
                length += len(line)
            if length < len(content):
                _log.warning(
                    "%s: damaged after %d events; continuing from there (finished trials are "
                    "found in their folders)",
                    self._path,
                    len(events),
                )
                os.truncate(self._path, length)
        except OSError as error:
            raise UserError(
                f"{self._path}: can't be read and written ({error.strerror}); give another "
                "--run-dir"
            ) from error
        return events

    def add(self, event: Event) -> None:
        """Append an event and sync it to disk.

        Raises:
            UserError: The file can't be written.
        """
        text = json.dumps(event)
        try:
            with self._path.open("ab") as file:
                file.write(f"{zlib.crc32(text.encode()):08x} {text}\n".encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(
                f"{self._path}: can't be written ({error.strerror}); free disk space, then "
                "continue with --resume"
            ) from error


def _parse(line: bytes) -> Event | None:
    """Parse a line; None if it is incomplete or damaged."""
    checksum, _, text = line.partition(b" ")
    if not line.endswith(b"\n") or checksum != f"{zlib.crc32(text[:-1]):08x}".encode():
        return None
    return json.loads(text)
