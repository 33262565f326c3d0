"""The process: its socket, its signals and its end, around the web application."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from keras_srt.core.errors import UserError
from keras_srt.serving.engine.gateway import Gateway
from keras_srt.serving.engine.local_models import LocalModels
from keras_srt.serving.http.app import make_app
from keras_srt.serving.http.limits import Limits
from keras_srt.serving.http.metrics import Metrics

_KEEP_ALIVE_SECONDS = 30
_CONNECTIONS = 900  # of the 1,024 files that a process usually may open


def serve(
    models: Sequence[Path] | Sequence[str],
    host: str,
    port: int,
    limits: Limits,
    backend: str | None = None,
    tell: Callable[[str], None] = print,
) -> None:
    """Serves until SIGTERM or Ctrl-C, then finishes what was begun.

    Args:
        models: folders `saved_models/<name>`; with a backend, names of its models.
        host: to listen on; 127.0.0.1 is reached from this machine alone.
        port: to listen on; 0 for any that is free.
        limits: that hold.
        backend: address of a TF Serving to be a gateway for.
        tell: called with lines for the operator.

    Raises:
        UserError: the address can't be used, or there is no model to serve.
        KeyboardInterrupt: ended by Ctrl-C.
    """
    with _bound(host, port) as listener:
        metrics = Metrics()
        answering: LocalModels | Gateway
        if backend is None:
            answering = LocalModels([Path(folder) for folder in models], limits, metrics, tell)
        else:
            answering = Gateway(backend, [str(name) for name in models], limits, metrics)
        try:
            server = make_server(make_app(answering, limits, metrics), limits)
            with _ended_by_sigterm():
                _listen(listener, host, tell)
                server.run(sockets=[listener])
        finally:
            answering.close()


def make_server(app: ASGIApp, limits: Limits) -> uvicorn.Server:
    """Makes the HTTP server of an application.

    Args:
        app: the web application.
        limits: whose timeout holds.

    Returns:
        A server; its `run(sockets=[…])` returns when it is told to end.
    """
    timeout = limits.timeout

    class Protocol(_PatientProtocol):
        patience = timeout

    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(timeout) + 1,
    )
    return uvicorn.Server(config)


class _PatientProtocol(H11Protocol):
    """Closes a connection whose client takes too long over the head of a request.

    uvicorn waits for it without end. The same goes for a body that nobody wants any more,
    after an error was answered.
    """

    patience = 30.0

    def connection_made(self, transport: Any) -> None:
        self._alarm: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        self._set_alarm()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._set_alarm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear_alarm()
        super().connection_lost(exc)

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _set_alarm(self) -> None:
        if self._answering():
            self._clear_alarm()
        elif self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(self.patience, self._ring)

    def _clear_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _ring(self) -> None:
        self._alarm = None
        if not self._answering():
            self.transport.close()


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket at the address; taken before the model is loaded, which may take long."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except (OSError, UnicodeError) as error:
        raise UserError(f"--host {host}: is no address of this machine ({error})") from error
    with listener:
        try:
            listener.bind(address)
        except OSError as error:
            raise _unusable(host, port, error) from error
        yield listener


def _listen(listener: socket.socket, host: str, tell: Callable[[str], None]) -> None:
    port = listener.getsockname()[1]
    try:
        listener.listen()
    except OSError as error:
        raise _unusable(host, port, error) from error
    shown = f"[{host}]" if ":" in host else host
    tell(f"http://{shown}:{port}/ is open (Ctrl-C ends it)")


def _unusable(host: str, port: int, error: OSError) -> UserError:
    return UserError(
        f"{host}:{port}: can't listen there ({error.strerror}); give another --port (0 for any "
        "free one) or --host"
    )


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM is the ordinary end of a server: uvicorn finishes, and raises it once more."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
