"""The journal of a search: what was begun and what came of it, in order, line by line."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

from keras_srt.core.errors import UserError

Event = dict[str, Any]


class Journal:
    """A file to which each event is added for good before the search goes on.

    keras-tuner's own files aren't written at once, so that a kill can leave half of one, and
    don't hold the state of all its random draws. From this one the search is done over again,
    without its trainings. A line that a kill cut off, or that was damaged, ends the journal:
    what comes after it is found again in the folders of the trials.

    Args:
        path: of the file, in a folder that exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Event]:
        """The events up to the first line that isn't whole; the file then ends before it.

        Raises:
            UserError: the file can't be read or written.
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
                print(
                    f"{self._path}: damaged after {len(events)} events; going on from there "
                    "(finished trials are found in their folders)",
                    flush=True,
                )
                os.truncate(self._path, length)
        except OSError as error:
            raise UserError(
                f"{self._path}: can't be read and written ({error.strerror}); give another "
                "--run-dir"
            ) from error
        return events

    def add(self, event: Event) -> None:
        """Adds an event, and returns when the disk has it.

        Raises:
            UserError: the file can't be written.
        """
        text = json.dumps(event)
        try:
            with self._path.open("ab") as file:
                file.write(f"{zlib.crc32(text.encode()):08x} {text}\n".encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(
                f"{self._path}: can't be written ({error.strerror}); make room, then go on with "
                "--resume"
            ) from error


def _parse(line: bytes) -> Event | None:
    """The event of a line; None if the line isn't whole."""
    checksum, _, text = line.partition(b" ")
    if not line.endswith(b"\n") or checksum != f"{zlib.crc32(text[:-1]):08x}".encode():
        return None
    return json.loads(text)
