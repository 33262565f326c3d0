"""Progress of long tasks: a bar on a terminal, otherwise a log line every 30 seconds."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

from typing_extensions import Self

from keras_srt.core.formatting import format_duration
from keras_srt.core.stderr_filter import UNFILTERED_STDERR

logger = logging.getLogger(__name__)

_BAR_SECONDS, _LINE_SECONDS = 1.0, 30.0
# tqdm's own, with whole parts.
_FORMAT = "{l_bar}{bar}| {n:,.0f}/{total:,.0f} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


@contextmanager
def above_bars() -> Iterator[None]:
    """Remove the bars from the terminal while the body prints lines."""
    from tqdm import tqdm

    with tqdm.external_write_mode(file=UNFILTERED_STDERR):
        yield


class ProgressBar:
    """The progress of a task.

    A thread updates the elapsed time, so that a task whose parts take minutes, or that has no
    parts, is seen as well. Nothing else is shown of tasks that take less, and nothing at all if
    the level of the logger `keras_srt` is above INFO.

    Args:
        title: What is done.
        total: The number of parts; None for a task without parts.
        unit: What a part is, such as "image".
        done: The number of parts that were done before.
        shown: Whether anything is shown; False for all processes but one.

    Example:
        >>> with ProgressBar("reading", 2, "image", shown=False) as bar:
        ...     bar.advance()
        ...     bar.done
        1
    """

    def __init__(
        self,
        title: str,
        total: int | None = None,
        unit: str = "part",
        done: int = 0,
        shown: bool = True,
    ) -> None:
        from tqdm import tqdm

        self.done: float = done
        self._title, self._total, self._unit = title, total, unit
        self._shown = shown and logging.getLogger("keras_srt").level <= logging.INFO
        self._values: dict[str, str] = {}
        self._began = time.perf_counter()
        self._timed_from: tuple[float, float] | None = None
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=title,
            unit=unit,
            leave=False,
            dynamic_ncols=True,
            file=UNFILTERED_STDERR,
            bar_format="{desc}: {elapsed}" if total is None else _FORMAT,
            disable=None if self._shown else True,  # None: disabled unless it is a terminal
        )
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._update, daemon=True)
        if self._shown:
            self._thread.start()

    def advance(self, count: float = 1, values: Mapping[str, str] | None = None) -> None:
        """Count parts as done.

        Args:
            count: The number of parts; a fraction for what is done of a part.
            values: Results so far, shown beside the progress: on a narrow terminal the first ones.
        """
        self.done += count
        if count and self._timed_from is None:  # the first part includes the compilation
            self._timed_from = time.perf_counter(), self.done
        self._values = dict(values or {})
        if not self._bar.disable:
            self._bar.set_postfix_str(self._fitting_values(), refresh=False)
        self._bar.update(count)

    @property
    def left(self) -> str:
        """The remaining time, from the parts after the first; empty if it isn't known yet."""
        if self._total is None or self._timed_from is None:
            return ""
        if self.done >= self._total:
            return "0 s"
        began, first = self._timed_from
        if self.done == first:
            return ""
        seconds = (time.perf_counter() - began) / (self.done - first)
        return format_duration(seconds * (self._total - self.done))

    def write(self, line: str) -> None:
        """Print a line to stdout, above the bar."""
        if not self._shown:
            return
        with above_bars():
            print(line, file=sys.stdout, flush=True)  # noqa: T201

    def close(self) -> None:
        """Remove the bar."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()
        self._bar.close()

    def _update(self) -> None:
        """Refresh the bar or log lines until the task is closed."""
        lines = self._bar.disable
        while not self._closed.wait(_LINE_SECONDS if lines else _BAR_SECONDS):
            if lines:
                logger.info(self._line())
            else:
                self._bar.refresh()

    def _fitting_values(self) -> str:
        """The first values that leave ten characters of the terminal's line for the bar."""
        shown = [f"{name}={value}" for name, value in self._values.items()]
        state = self._bar.format_dict
        columns = state["ncols"] or sys.maxsize
        while shown:
            text = ", ".join(shown)
            # Without a number of columns, tqdm makes the bar ten characters wide.
            line = self._bar.format_meter(**{**state, "ncols": None, "postfix": text})
            if len(line) < columns:
                return text
            shown.pop()
        return ""

    def _line(self) -> str:
        parts = [f"{self._title:<9}"]
        if self._total is not None:
            parts.append(f"{int(self.done):,} of {self._total:,} {self._unit}s")
        parts += [f" {name} {value}" for name, value in self._values.items()]
        left, elapsed = self.left, format_duration(time.perf_counter() - self._began)
        return " ".join(parts) + (f"  left: {left}" if left else f"  {elapsed} so far")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
