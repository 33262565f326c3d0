"""Signals to `keras-srt serve`."""

import json
import signal
import socket
import time
from pathlib import Path

import pytest
from serving_helpers import Process, png, publish, rows

MODEL = "/v1/models/shades"


def head(path=f"{MODEL}:predict", **headers):
    lines = "".join(f"{key.replace('_', '-')}: {value}\r\n" for key, value in headers.items())
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode()


def received(link):
    with link, link.makefile("rb") as file:
        return file.read()


@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signal_completes_running_requests(tmp_path, how, code):
    publish(tmp_path / "saved_models" / "shades", 1)
    server = Process(cwd=tmp_path)
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps(rows(png(255))).encode()
    with socket.create_connection((host, int(port)), timeout=30) as link:
        link.sendall(head(Content_Length=len(body), Connection="close") + body[:10])
        time.sleep(0.5)
        server.process.send_signal(how)
        time.sleep(0.5)
        with pytest.raises(OSError):  # no new ones
            socket.create_connection((host, int(port)), timeout=5)
        link.sendall(body[10:])
        answer = received(link)
    assert b'"class_name": "light"' in answer
    _, errors = server.process.communicate(timeout=30)
    assert server.process.returncode == code
    assert errors == ("interrupted\n" if how == signal.SIGINT else "")
    assert server.lines[0] == "shades: serving version 1"
    assert server.lines[1] == f"{server.url}/ is ready (stop with Ctrl-C)"
    assert Path(tmp_path / "saved_models").is_dir()
