"""The stderr filter: native output and Python output, with and without an error."""

import os
import sys

import pytest

from keras_srt.core.stderr_filter import UNFILTERED_STDERR, filter_stderr


def test_matching_lines_are_dropped_and_others_kept(capfd):
    with filter_stderr("noise"):
        os.write(2, b"some noise here\nkept\n")
        print("also kept", file=sys.stderr)
    assert sorted(capfd.readouterr().err.splitlines()) == ["also kept", "kept"]


def test_lines_are_written_when_the_block_fails(capfd):
    def fail():
        with filter_stderr("noise"):
            os.write(2, b"noise\nkept\n")
            raise ValueError("failed")

    with pytest.raises(ValueError, match="failed"):
        fail()
    assert capfd.readouterr().err == "kept\n"


def test_progress_is_written_at_once_and_does_not_hide_noise(capfd):
    with filter_stderr("^noise"):
        UNFILTERED_STDERR.write("\rbar")
        os.write(2, b"noise\n")
        with filter_stderr("^other"):
            UNFILTERED_STDERR.write("!")
        assert capfd.readouterr().err == "\rbar!"
    UNFILTERED_STDERR.write("after")
    assert capfd.readouterr().err == "after"
