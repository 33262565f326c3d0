"""What commands print has no control characters; output that can't be written is dropped."""

import io
import logging
import os
import re
import signal
import subprocess
import sys

import pytest
from terminals import terminal

from keras_srt.cli import output
from keras_srt.cli.main import main
from keras_srt.cli.signals import signals_as_ctrl_c
from keras_srt.core.errors import UserError
from keras_srt.core.progress import ProgressBar

EVIL = "a\x1b[2J\x9b31m\u202eb\r"


def test_control_characters_are_escaped(capsys):
    output.show(f"{EVIL}\nsecond ä")
    assert capsys.readouterr().out == "a\\x1b[2J\\x9b31m\\u202eb\\r\nsecond ä\n"
    output.show_error(EVIL)
    assert capsys.readouterr().err == "a\\x1b[2J\\x9b31m\\u202eb\\r\n"


def test_logs_and_errors_are_escaped(capsys):
    with output.shown_logs():
        logging.getLogger("keras_srt.x").warning("name %s", EVIL)
    assert "\x1b" not in capsys.readouterr().out
    assert main(["data", "check", f"{EVIL}.json"]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_what_the_encoding_lacks_is_escaped(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    output.show("ä…", stream)
    assert stream.buffer.getvalue() == b"\\xe4\\u2026\n"


class Broken(io.StringIO):
    def write(self, text):
        raise OSError(5, "Input/output error")


def test_output_that_cannot_be_written_is_an_error():
    with pytest.raises(UserError, match=r"output: can't be written \(Input/output error\)"):
        output.show("text", Broken())


def test_lost_output_is_dropped(monkeypatch):
    monkeypatch.setattr("sys.stdout", Broken())
    monkeypatch.setattr("sys.stderr", Broken())
    with output.lossy_output(), output.shown_logs():
        logging.getLogger("keras_srt.x").info("lost")
        print("lost", flush=True)
    with pytest.raises(OSError, match="Input/output"):
        print("seen")
    output.show_error("lost")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_ending_signals_are_interruptions(number):
    before = signal.signal(number, signal.SIG_DFL)  # nohup ignores SIGHUP
    try:
        with pytest.raises(KeyboardInterrupt), signals_as_ctrl_c():
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_as_ctrl_c():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_messages_are_printed_above_progress_bars(capfd):
    with terminal(80) as screen, output.shown_logs(), ProgressBar("converting"):
        screen.read_until("converting: 00:00")
        logging.getLogger("keras_srt.x").info("a message")
        assert re.fullmatch(r"\r +\r\rconverting: 00:00", screen.read())
    assert capfd.readouterr().out == "a message\n"


def test_the_last_garbage_collections_of_a_command_skip_its_objects():
    code = (
        "import atexit, gc, keras_srt.cli.main as cli\n"
        "atexit.register(lambda: print('frozen:', gc.get_freeze_count() > 0))\n"
        "cli.main(['completion', 'bash'])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.endswith("frozen: True\n")
