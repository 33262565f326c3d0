"""The server process: socket, signals and shutdown."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Iterator, Sequence
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

_LOG = logging.getLogger(__name__)
_KEEP_ALIVE_SECONDS = 30
_MAX_CONNECTIONS = 900  # the usual limit of open files per process is 1,024


def serve(
    models: Sequence[Path] | Sequence[str],
    host: str,
    port: int,
    limits: Limits,
    backend: str | None = None,
    foreign: bool = False,
) -> None:
    """Serve until SIGTERM or Ctrl-C, then complete running requests.

    Args:
        models: Folders `saved_models/<name>`; with a backend, names of its models.
        host: Address to listen on; 127.0.0.1 accepts connections only from this machine.
        port: Port to listen on; 0 for any free one.
        limits: Limits of the server.
        backend: Address of a TF Serving, to run as its gateway.
        foreign: Whether to load SavedModels with any operations, see `load_savedmodel`.

    Raises:
        UserError: The address can't be used, or there is no model to serve.
        KeyboardInterrupt: Ctrl-C.
    """
    with _bound_socket(host, port) as listener:
        metrics = Metrics()
        engine: LocalModels | Gateway
        if backend is None:
            engine = LocalModels([Path(folder) for folder in models], limits, metrics, foreign)
        else:
            engine = Gateway(backend, [str(name) for name in models], limits, metrics)
        try:
            server = make_server(make_app(engine, limits, metrics), limits)
            with _graceful_sigterm():
                _listen(listener, host)
                server.run(sockets=[listener])
        finally:
            engine.close()


def make_server(app: ASGIApp, limits: Limits) -> uvicorn.Server:
    """Make the HTTP server of an application.

    Args:
        app: The web application.
        limits: Limits; the timeout is used.

    Returns:
        A server; `run(sockets=[…])` blocks until `should_exit` is set or a signal arrives.
    """
    timeout = limits.timeout

    class Protocol(_HeadTimeoutProtocol):
        head_timeout = timeout

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
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(timeout) + 1,
    )
    return uvicorn.Server(config)


class _HeadTimeoutProtocol(H11Protocol):
    """Closes a connection if the client takes too long to send the head of a request.

    uvicorn itself has no such timeout. The timeout also applies to the rest of a body after an
    error response.
    """

    head_timeout = 30.0

    def connection_made(self, transport: Any) -> None:
        self._timer: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        self._set_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._set_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear_timer()
        super().connection_lost(exc)

    def _is_responding(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _set_timer(self) -> None:
        if self._is_responding():
            self._clear_timer()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self.head_timeout, self._on_timeout)

    def _clear_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timeout(self) -> None:
        self._timer = None
        if not self._is_responding():
            self.transport.close()


@contextmanager
def _bound_socket(host: str, port: int) -> Iterator[socket.socket]:
    """Bind a socket. This happens before models are loaded, which may take long."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except (OSError, UnicodeError) as error:
        raise UserError(f"--host {host}: not an address of this machine ({error})") from error
    with listener:
        try:
            listener.bind(address)
        except OSError as error:
            raise _unusable(host, port, error) from error
        yield listener


def _listen(listener: socket.socket, host: str) -> None:
    port = listener.getsockname()[1]
    try:
        listener.listen()
    except OSError as error:
        raise _unusable(host, port, error) from error
    shown = f"[{host}]" if ":" in host else host
    _LOG.info("http://%s:%s/ is ready (stop with Ctrl-C)", shown, port)


def _unusable(host: str, port: int, error: OSError) -> UserError:
    return UserError(
        f"{host}:{port}: can't listen on this address ({error.strerror}); give another --port (0 "
        "for any free one) or --host"
    )


@contextmanager
def _graceful_sigterm() -> Iterator[None]:
    """Ignore the SIGTERM that uvicorn raises again after a graceful shutdown."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
