"""The server process: socket, signals and shutdown."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import uvicorn

from keras_srt.core.errors import UserError
from keras_srt.core.signals import TERMINATION_SIGNALS
from keras_srt.serving.engine.gateway import Gateway
from keras_srt.serving.engine.local_models import LocalModels
from keras_srt.serving.engine.version_policy import LATEST, VersionPolicy
from keras_srt.serving.http.app import Models, make_app
from keras_srt.serving.http.connections import Connection, Connections
from keras_srt.serving.http.limits import Admission, Limits
from keras_srt.serving.http.metrics import Metrics

_LOG = logging.getLogger(__name__)
_KEEP_ALIVE_SECONDS = 30
_BACKLOG = 1024  # connections that the system holds until they are accepted
_PAUSE_SECONDS = 0.1


@dataclass(frozen=True)
class Settings:
    """Settings of a server process.

    Attributes:
        host: Address to listen on; 127.0.0.1 accepts connections only from this machine.
        port: Port to listen on; 0 for any free one.
        grpc_port: Port for gRPC; 0 for any free one, None for no gRPC.
        backend: Address of a TF Serving, to run as its gateway.
        foreign: Whether to load SavedModels with any operations, see `load_savedmodel`.
        policy: The versions to serve.
        root: A folder whose new models are served, too.
        origins: Origins of pages that browsers allow to send requests; "*" for all.
        access_log: Whether to log each request as a line of JSON.
    """

    host: str = "127.0.0.1"
    port: int = 8501
    grpc_port: int | None = None
    backend: str | None = None
    foreign: bool = False
    policy: VersionPolicy = LATEST
    root: Path | None = None
    origins: tuple[str, ...] = ()
    access_log: bool = False


def serve(models: Sequence[str], settings: Settings, limits: Limits) -> None:
    """Serve until SIGTERM, SIGHUP or Ctrl-C, then complete running requests.

    Args:
        models: Folders `saved_models/<name>`; with a backend, names of its models.
        settings: Settings of the process.
        limits: Limits of the server.

    Raises:
        UserError: The address can't be used, or there is no model to serve.
        KeyboardInterrupt: Ctrl-C.
    """
    host, metrics = settings.host, Metrics()
    with _bound_socket(host, settings.port) as listener:
        if settings.grpc_port:  # fail now, and not after the models are loaded
            with _bound_socket(host, settings.grpc_port):
                pass
        admission = Admission(limits, metrics, settings.access_log)
        engine: LocalModels | Gateway
        others: list[OtherServer] = []
        if settings.backend is not None:
            engine = Gateway(settings.backend, models, limits, metrics)
        else:
            folders = [Path(folder) for folder in models]
            engine = LocalModels(
                folders, limits, metrics, settings.foreign, settings.policy, settings.root
            )
            if settings.grpc_port is not None:
                from keras_srt.serving.rpc.server import GrpcServer

                others.append(GrpcServer(engine, admission, host, settings.grpc_port))
        try:
            server = make_server(engine, admission, others, settings.origins)
            with _graceful_signals(server):
                _listen(listener, host)
                server.run(sockets=[listener])
        finally:
            engine.close()


def make_server(
    models: Models,
    admission: Admission,
    others: Sequence[OtherServer] = (),
    origins: Sequence[str] = (),
) -> uvicorn.Server:
    """Make the HTTP server of an engine.

    Args:
        models: The engine that computes responses.
        admission: Limits and metrics of the server.
        others: Servers of other protocols, which start and stop with it.
        origins: Origins of pages that browsers allow to send requests; "*" for all.

    Returns:
        A server; `run(sockets=[…])` blocks until `should_exit` is set or a signal arrives.
    """
    limits = admission.limits
    config = uvicorn.Config(
        make_app(models, admission, origins),
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(limits.timeout) + 1,
    )
    return _Server(config, Connections(admission), others)


class OtherServer(Protocol):
    """A server of another protocol, in the same event loop."""

    async def start(self) -> None:
        """Start the server."""

    async def stop(self) -> None:
        """Complete the running requests and stop the server."""


class _Server(uvicorn.Server):
    """Accepts connections only while there is room for them."""

    def __init__(
        self,
        config: uvicorn.Config,
        connections: Connections,
        others: Sequence[OtherServer],
    ) -> None:
        super().__init__(config)
        self._others, self._connections = others, connections
        self._limits = connections.admission.limits
        self._acceptors: list[asyncio.Task[None]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        for other in self._others:
            await other.start()
        await super().startup(sockets=[])
        self._acceptors = [asyncio.create_task(self._accept(sock)) for sock in sockets or []]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._drain()
        for acceptor in self._acceptors:
            acceptor.cancel()
        await asyncio.gather(*self._acceptors, return_exceptions=True)
        await asyncio.gather(super().shutdown(sockets), *(other.stop() for other in self._others))

    async def _drain(self) -> None:
        """Let clients end their connections: one that is closed may just have sent a request."""
        self._connections.draining = True
        end = time.monotonic() + self._limits.drain
        while self._connections and not self.force_exit and time.monotonic() < end:
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        listener.listen(_BACKLOG)
        while True:
            await self._connections.room()
            try:
                accepted, _ = await loop.sock_accept(listener)
                await loop.connect_accepted_socket(self._make_connection, accepted)
            except ConnectionError:  # the client closed the connection
                continue
            except OSError as error:  # out of files, of which something else opened too many
                _LOG.warning("Can't accept a connection (%s)", error.strerror)
                self._connections.close_one()
                await asyncio.sleep(_PAUSE_SECONDS)

    def _make_connection(self) -> Connection:
        return Connection(self._connections, self._limits.timeout, self)


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
def _graceful_signals(server: uvicorn.Server) -> Iterator[None]:
    """End the server on SIGHUP as uvicorn does on SIGTERM, which it raises again afterwards."""

    def end(*_: object) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in TERMINATION_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
