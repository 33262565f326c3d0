"""The progress of the parts of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from keras_srt.attacks import QueryModel
from keras_srt.core.progress import ProgressBar

# (name, images or parts done, images or parts in all); those in work count in proportion to what is
# done of them.
Progress = Callable[[str, float, int], None]


@contextmanager
def report_part(
    progress: Progress | None, model: QueryModel, name: str, first: int, count: int, total: int
) -> Iterator[None]:
    """Report the progress of a part: meanwhile what the attacks on a model report, and its end.

    Args:
        progress: Called with the progress, or None.
        model: The model under attack.
        name: The name of what is done.
        first: The number of images or parts before this part.
        count: The number of images or parts of this part.
        total: The number of all.
    """
    if progress is None:
        yield
        return
    with model.progress.shown_by(lambda share: progress(name, first + share * count, total)):
        yield
    progress(name, first + count, total)


@contextmanager
def progress_bars(unit: str) -> Iterator[Progress]:
    """Show the progress of each part with the remaining time, until it is done.

    Args:
        unit: What `done` and `total` count, such as "image".
    """
    bars: dict[str, ProgressBar] = {}

    def progress(name: str, done: float, total: int) -> None:
        if name not in bars:
            for bar in bars.values():
                bar.close()
            bars[name] = ProgressBar(name, total, unit)
        bars[name].advance(done - bars[name].done)

    try:
        yield progress
    finally:
        for bar in bars.values():
            bar.close()
