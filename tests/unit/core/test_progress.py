"""Progress: the remaining time, and lines where there is no terminal."""

from __future__ import annotations

import logging
import queue

import pytest

from keras_srt.core import progress
from keras_srt.core.progress import ProgressBar


@pytest.fixture
def clock(monkeypatch):
    """Seconds on the clock, as a list of one number."""
    seconds = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: seconds[0])
    return seconds


def test_the_remaining_time_is_taken_from_the_parts_after_the_first(clock):
    with ProgressBar("training", 10, "step", done=2, shown=False) as bar:
        assert bar.left == ""
        clock[0] = 100.0  # the compilation
        bar.advance()
        assert bar.left == ""
        clock[0] = 104.0
        bar.advance(2)
        assert bar.left == "10 s"  # 2 seconds a part, 5 parts
        bar.advance(5)
        assert bar.left == "0 s"


@pytest.fixture
def next_line(monkeypatch):
    """A function that waits for the next line of a bar."""
    lines = queue.SimpleQueue()
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.01)
    monkeypatch.setattr(progress.logger, "info", lines.put)

    def wait():
        while not lines.empty():
            lines.get()
        lines.get(timeout=10)  # may have been made before
        return lines.get(timeout=10)

    return wait


def test_parts_of_a_part_count(clock, next_line):
    with ProgressBar("gridadv", 500, "image") as bar:
        bar.advance(0.5)
        clock[0] = 60.0
        bar.advance(49.75)
        assert next_line() == "gridadv   50 of 500 images  left: 9 min"


def test_lines_replace_the_bar_where_there_is_no_terminal(clock, next_line):
    with ProgressBar("pgd", 1_000, "image") as bar:
        clock[0] = 60.0
        assert next_line() == "pgd       0 of 1,000 images  60 s so far"
        bar.advance(500)
        clock[0] = 90.0
        bar.advance(250, {"loss": "0.5"})
        assert next_line() == "pgd       750 of 1,000 images  loss 0.5  left: 30 s"
    with ProgressBar("SavedModel"):
        clock[0] = 170.0
        assert next_line() == "SavedModel  80 s so far"


def test_short_tasks_and_hidden_ones_print_nothing(caplog, capsys):
    caplog.set_level(logging.INFO)
    with ProgressBar("pgd", 2, "image") as bar:
        bar.advance(2)
    with ProgressBar("pgd", 2, "image", shown=False) as bar:
        bar.advance(2)
    caplog.set_level(logging.WARNING, "keras_srt")
    with ProgressBar("pgd", 2, "image") as bar:
        bar.write("quiet")
    assert caplog.text == ""
    assert capsys.readouterr() == ("", "")
