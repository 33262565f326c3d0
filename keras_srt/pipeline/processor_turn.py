"""Trainings on the processors of one machine take turns, because two only slow each other."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from keras_srt.core.formatting import printable
from keras_srt.core.locks import try_lock

logger = logging.getLogger(__name__)

_POLL_SECONDS = 1.0


@contextlib.contextmanager
def processor_turn(run: Path, wait: bool) -> Iterator[None]:
    """Register a training of this user on this machine while the body runs.

    If another training is registered, the log names it, and with `wait` this one starts when
    the other has ended. The registration of a killed process ends with the process.

    Args:
        run: The run folder, which later trainings name.
        wait: Whether to wait for the other training.

    Raises:
        KeyboardInterrupt: While waiting.
    """
    with contextlib.ExitStack() as stack:
        try:
            path = _cache_folder() / "training.lock"
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("a+", encoding="utf-8", errors="replace"))
            if _take(file, wait):
                file.truncate(0)
                file.write(f"{run} (process {os.getpid()})")
                file.flush()
        except (OSError, RuntimeError) as error:  # no home folder, or one without locks
            logger.debug("trainings on this machine don't take turns: %s", error)
        yield


def _cache_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "keras_srt"


def _take(file: TextIO, wait: bool) -> bool:
    """Lock the file, at once or after waiting; return whether it is locked."""
    if try_lock(file.fileno()):
        return True
    file.seek(0)
    other = printable(file.read(4096)) or "another process"
    if not wait:
        logger.info(
            "another training uses these processors, so both take longer: %s; with --wait, a "
            "training starts after it",
            other,
        )
        return False
    logger.info("waiting for the training in %s", other)
    while not try_lock(file.fileno()):
        time.sleep(_POLL_SECONDS)
    return True
