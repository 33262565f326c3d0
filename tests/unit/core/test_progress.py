"""Progress: the remaining time, and lines where there is no terminal."""

from __future__ import annotations

import logging
import os
import queue
import re

import pytest
from terminals import terminal

from keras_srt.core import progress
from keras_srt.core.progress import ProgressBar, above_bars
from keras_srt.core.stderr_filter import filter_stderr


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


TERMS = {"loss": "1.234", "clean_loss": "0.567", "robust_loss": "0.667", "accuracy": "0.890"}


@pytest.mark.parametrize(
    ("columns", "shown"),
    [(72, ""), (80, "loss=1.234"), (200, ", ".join(f"{k}={v}" for k, v in TERMS.items()))],
)
def test_on_a_narrow_terminal_the_last_values_are_left_out(columns, shown):
    with terminal(columns) as screen:
        with ProgressBar("training", 400, "step", done=100) as bar:
            began = bar._bar.start_t
            bar._bar._time = lambda: began + 50
            bar.advance(100)
            bar.advance(0, TERMS)
            bar._bar.refresh()
            frame = screen.read_until(" 2.00step/s").split("\r")[-1]
        assert len(frame) <= columns
        assert re.search(r"\|(.{10,})\|", frame)
        assert frame.endswith(f" 2.00step/s{', ' * bool(shown)}{shown}]")


def test_a_bar_moves_while_stderr_is_filtered(monkeypatch):
    monkeypatch.setattr(progress, "_BAR_SECONDS", 0.01)
    with terminal(80) as screen:
        with ProgressBar("converting"), filter_stderr("^noise"):
            screen.read()
            os.write(2, b"noise: 0\n")
            screen.read_until("converting: 00:00")
        assert "noise" not in screen.read()


def test_lines_are_printed_above_the_bar():
    with terminal(80) as screen, ProgressBar("converting"):
        screen.read_until("converting: 00:00")
        with above_bars():
            os.write(2, b"a line\n")
        shown = screen.read_until("a line", "converting: 00:00")
        assert re.fullmatch(r"\r +\ra line\r\n\rconverting: 00:00", shown)
