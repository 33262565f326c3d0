"""The stderr filter: native output and Python output, with and without an error."""

import os
import sys

import pytest

from keras_srt.core.stderr_filter import filter_stderr


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
