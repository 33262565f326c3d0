"""The bound on open connections."""

import asyncio
import json
import resource
import socket
import subprocess
import sys

import pytest
from helpers import ROOT, clean_environment
from serving_helpers import HeldModels, Running, ask, wait_until

from keras_srt.core.errors import UserError
from keras_srt.serving.http.connections import Connections, connection_limit
from keras_srt.serving.http.limits import Admission, Limits
from keras_srt.serving.http.metrics import Metrics

LIMIT, RESERVE = 4, 16
HEAD = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: x\r\n"
BUSY = {"error": "The server is busy: too many connections"}


@pytest.fixture
def server():
    started = Running(HeldModels(), Limits(max_connections=LIMIT, timeout=20.0), Metrics())
    yield started
    started.stop()


def connect(server, text=b""):
    link = socket.create_connection(server.address, timeout=10)
    if text:
        link.sendall(text)
    return link


def connections(server, texts):
    """Connect in order, each after the server has accepted the one before."""
    links = []
    for text in texts:
        before = figure(server, "connections")
        links.append(connect(server, text))
        wait_until(lambda before=before: figure(server, "connections") == before + 1)
    return links


def figure(server, name):
    lines = server.metrics.page().decode().splitlines()
    found = [line for line in lines if line.startswith(f"keras_srt_{name} ")]
    return float(found[0].split()[1]) if found else 0.0


def received(link):
    """Status, headers and JSON of a response; None if the connection is closed without one."""
    with link, link.makefile("rb") as file:
        text = file.read()
    if not text:
        return None
    head, body = text.split(b"\r\n\r\n", 1)
    lines = head.decode().lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers, json.loads(body)


def get(server, path="/health"):
    return ask(server.url + path)


def test_the_longest_waiting_connection_is_closed_for_a_new_one(server):
    silent, partial, *_ = held = connections(server, [b"", HEAD, b"", b""])
    assert get(server)[:2] == (200, {"status": "ok"})
    assert received(silent) is None
    wait_until(lambda: figure(server, "connections") == LIMIT - 1)
    held += connections(server, [b""])
    with connect(server):
        code, headers, document = received(partial)
        assert (code, document) == (503, BUSY)
        assert (headers["retry-after"], headers["connection"]) == ("1", "close")
        wait_until(lambda: figure(server, "connections") == LIMIT)
    assert figure(server, 'requests_total{code="503",kind="other"}') == 1
    assert figure(server, 'connections_evicted_total{state="waiting"}') == 2
    assert figure(server, "connections_limit") == LIMIT


def test_slowly_sent_bodies_are_refused_beyond_half_of_the_limit(server):
    started = HEAD + b"Content-Length: 100\r\n\r\n{"
    bodies = connections(server, [started] * (LIMIT // 2))
    silent = connections(server, [b""] * (LIMIT // 2))
    with connect(server, started):
        assert received(silent[0]) is None
        wait_until(lambda: figure(server, "connections") == LIMIT)
        assert get(server)[0] == 200
        code, headers, document = received(bodies[0])
    bodies[1].close()
    assert (code, document, headers["retry-after"]) == (503, BUSY, "1")
    assert figure(server, 'requests_total{code="503",kind="predict"}') == 1
    assert figure(server, 'connections_evicted_total{state="reading"}') == 1


def test_running_requests_are_kept_and_health_responds_beyond_the_limit(server):
    whole = HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}"
    running = connections(server, [whole] * LIMIT)
    wait_until(lambda: server.models.waiting == LIMIT)
    assert get(server)[:2] == (200, {"status": "ok"})
    code, document, headers = ask(f"{server.url}/v1/models/m:predict", {"a": 1})
    assert (code, document) == (503, BUSY)
    assert (headers["retry-after"], headers["connection"]) == ("1", "close")
    server.models.go.set()
    assert [received(link)[0] for link in running] == [200] * LIMIT
    assert ask(f"{server.url}/v1/models/m:predict", {"a": 1})[0] == 200


def test_accepting_pauses_at_the_end_of_the_reserve():
    registry = Connections(Admission(Limits(max_connections=LIMIT), Metrics()))

    def is_open():
        return asyncio.run(asyncio.wait_for(registry.room(), 0.05)) is None

    added = [object() for _ in range(LIMIT + RESERVE)]
    assert [registry.add(connection) for connection in added[:-1]] == (
        [True] * LIMIT + [False] * (RESERVE - 1)
    )
    assert is_open()
    registry.add(added[-1])
    with pytest.raises(asyncio.TimeoutError):
        is_open()
    registry.remove(added[0])
    assert is_open()


def test_an_invalid_head_is_a_counted_json_error(server):
    code, headers, document = received(connect(server, b"no HTTP\r\n\r\n"))
    assert (code, document) == (400, {"error": "Invalid HTTP request received."})
    assert headers["content-type"] == "application/json"
    assert figure(server, 'requests_total{code="400",kind="other"}') == 1


def limit_in_a_process(files, wanted):
    code = (
        "from keras_srt.serving.http.connections import connection_limit\n"
        f"print(connection_limit({wanted}))"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, files),
    )


@pytest.mark.parametrize(
    ("files", "wanted", "low", "high"),
    [
        ((1024, 1024), None, 800, 960),  # what fits
        ((256, 1024), 500, 500, 500),  # the soft limit is raised
        ((1024, 1024), 10, 10, 10),
    ],
)
def test_limit_fits_the_limit_on_open_files(files, wanted, low, high):
    assert low <= int(limit_in_a_process(files, wanted).stdout) <= high


def test_limit_that_does_not_fit_is_refused():
    errors = limit_in_a_process((1024, 1024), 5000).stderr
    assert "--max-connections: got 5,000; allowed: at most 9" in errors
    assert "the limit of 1,024 open files" in errors


def test_default_limit_without_a_tight_limit_on_files(monkeypatch):
    infinite = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: infinite)
    assert connection_limit(None) == 4096
    monkeypatch.setattr(resource, "getrlimit", lambda _: (32, 32))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    with pytest.raises(UserError, match="allowed: at most 0"):
        connection_limit(None)
