"""The server process."""

import signal
from types import SimpleNamespace

import pytest

from keras_srt.serving.http.server import _graceful_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_end_the_server_gracefully(number):
    server, before = SimpleNamespace(should_exit=False), signal.getsignal(number)
    with _graceful_signals(server):
        signal.raise_signal(number)
        assert server.should_exit
    assert signal.getsignal(number) == before
