"""A bound on open connections: the longest waiting ones are closed for new ones."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import OrderedDict
from typing import Any

import h11
import uvicorn
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from keras_srt.core.errors import UserError
from keras_srt.serving.http.limits import Admission, Finished, Limits
from keras_srt.serving.http.protocol import RequestError, to_json, too_many_connections

_LOG = logging.getLogger(__name__)
# Connections beyond the limit, on which health and metrics respond and other requests are refused.
_RESERVE = 16
# Files for models, threads and backends, besides those that are open at the start.
_SPARE_FILES = 64
_CLOSING_SECONDS = 1.0
_WARNING_SECONDS = 60.0


def connection_limit(wanted: int | None) -> int:
    """Return a limit on connections that fits the limit on open files.

    The soft limit on open files is raised if necessary and possible.

    Args:
        wanted: The requested limit; by default, 4,096 or what fits.

    Raises:
        UserError: The requested limit doesn't fit, or not even one connection fits.
    """
    try:
        import resource
    except ImportError:  # Windows limits neither files nor sockets
        return wanted or Limits.max_connections
    others = len(os.listdir("/dev/fd")) + _SPARE_FILES + _RESERVE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = others + (wanted or Limits.max_connections)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < needed:
        soft = needed if hard == unlimited else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    fitting = (needed if soft == unlimited else min(soft, needed)) - others
    if fitting < (wanted or 1):
        raise UserError(
            f"--max-connections: got {wanted or 1:,}; allowed: at most {max(fitting, 0):,} with "
            f"the limit of {soft:,} open files; raise that by `ulimit -n`"
        )
    return fitting


class Connections:
    """The open connections of a server.

    Each one either waits for a request, or its request's body is being read, or its response is
    being computed. Beyond the limit, the one that has waited for the longest is closed; if none
    waits, or bodies take more than half of the limit, the one whose body has been read for the
    longest. Those whose response is being computed are kept.

    Args:
        admission: The limit, and metrics that count closed connections.

    Attributes:
        admission: As given.
        limit: Maximum number of connections.
        draining: Whether the server is shutting down; responses then have `Connection: close`.
    """

    def __init__(self, admission: Admission) -> None:
        self.admission, self.limit = admission, admission.limits.max_connections
        self.draining = False
        self._open: set[Connection] = set()
        self._waiting: OrderedDict[Connection, None] = OrderedDict()
        self._reading: OrderedDict[Connection, None] = OrderedDict()
        self._room = asyncio.Event()
        self._room.set()
        self._warned = -_WARNING_SECONDS
        watch = admission.metrics.watch
        watch(lambda: len(self), "connections", "Open connections")
        watch(lambda: self.limit, "connections_limit", "Limit on open connections")

    async def room(self) -> None:
        """Wait until a connection may be accepted."""
        await self._room.wait()

    def add(self, connection: Connection) -> bool:
        """Add an accepted connection, and close another one if the limit is exceeded.

        Returns:
            Whether the connection is within the limit; otherwise, its requests are refused.
        """
        within = len(self._open) < self.limit or self.close_one()
        self._open.add(connection)
        if len(self._open) >= self.limit + _RESERVE:
            self._room.clear()
        return within

    def __len__(self) -> int:
        return len(self._open)

    def remove(self, connection: Connection) -> None:
        """Remove a closed connection."""
        self._open.discard(connection)
        self._forget(connection)
        self._room.set()

    def note_waiting(self, connection: Connection) -> None:
        """Note that a connection waits for a request, if that is not known yet."""
        if connection not in self._waiting:
            self._forget(connection)
            self._waiting[connection] = None

    def note_reading(self, connection: Connection) -> None:
        """Note that a request's body is being read, if that is not known yet."""
        if connection not in self._reading:
            self._forget(connection)
            self._reading[connection] = None

    def note_responding(self, connection: Connection) -> None:
        """Note that a response is being computed."""
        self._forget(connection)

    def close_one(self) -> bool:
        """Close the connection that can best be spared; return whether there is one."""
        # Slowly sent bodies may not take the place of clients that send requests now and then.
        many_bodies = len(self._reading) > self.limit // 2
        group = self._reading if many_bodies else self._waiting or self._reading
        if time.monotonic() - self._warned > _WARNING_SECONDS:
            self._warned = time.monotonic()
            _LOG.warning(
                "The limit of %d connections is reached; those that waited the longest are closed",
                self.limit,
            )
        if not group:
            return False
        connection, _ = group.popitem(last=False)
        connection.evict()
        return True

    def _forget(self, connection: Connection) -> None:
        self._waiting.pop(connection, None)
        self._reading.pop(connection, None)


class Connection(H11Protocol):
    """A connection of uvicorn with a state in `Connections`, a head timeout and JSON errors.

    The application finds it as `connection` in the state of a request.

    Args:
        connections: All connections of the server.
        head_timeout: Seconds for the head of a request, and for the rest of a body after an error
            response.
        server: The server that accepted the connection.

    Attributes:
        evicted: A future that is done when the connection is closed for another one.
        within_limit: Whether the connection is within the limit on connections.
    """

    def __init__(
        self, connections: Connections, head_timeout: float, server: uvicorn.Server
    ) -> None:
        super().__init__(server.config, server.server_state, server.lifespan.state)
        self._connections, self._head_timeout = connections, head_timeout
        self._timer: asyncio.TimerHandle | None = None
        self._head_begun = False
        self.evicted: asyncio.Future[None] = self.loop.create_future()
        self.within_limit = True
        self.app_state = {**self.app_state, "connection": self}

    @property
    def draining(self) -> bool:
        """Whether the server is shutting down, so that clients should reconnect to another one."""
        return self._connections.draining

    @override
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.within_limit = self._connections.add(self)
        self._note_state()
        self._update_timer()

    @override
    def data_received(self, data: bytes) -> None:
        self._head_begun = True
        super().data_received(data)
        self._note_state()
        self._update_timer()

    @override
    def on_response_complete(self) -> None:
        self._head_begun = False
        super().on_response_complete()
        self._note_state()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._clear_timer()
        self._connections.remove(self)
        super().connection_lost(exc)

    @override
    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._abort_soon()

    @override
    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state is h11.SEND_BODY:  # the response has begun
            self.transport.close()
        else:
            self._send_error(RequestError(400, msg))

    def evict(self) -> None:
        """Close this connection for another one."""
        metrics = self._connections.admission.metrics
        metrics.count_evicted("reading" if self._is_responding() else "waiting")
        if self._is_responding():
            if not self.evicted.done():
                self.evicted.set_result(None)
        elif self._head_begun and self.conn.our_state is h11.IDLE:
            self._send_error(too_many_connections())
        else:
            self.transport.close()
        self._abort_soon()

    def _send_error(self, error: RequestError) -> None:
        """Respond to a head that is incomplete or invalid, and close the connection."""
        body = to_json({"error": error.text})
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        headers += [(b"content-length", b"%d" % len(body))]
        headers += [(b"retry-after", b"1")] if error.code == 503 else []
        reason = STATUS_PHRASES[error.code]
        for event in (
            h11.Response(status_code=error.code, headers=headers, reason=reason),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event))
        client = self.client[0] if self.client else ""
        self._connections.admission.record(Finished("other", error.code, 0.0, client, "", ""))
        self.transport.close()

    def _abort_soon(self) -> None:
        """Drop what the client doesn't read; `close` would wait for that without end."""
        self.loop.call_later(_CLOSING_SECONDS, self.transport.abort)

    def _is_responding(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _note_state(self) -> None:
        if not self._is_responding():
            self._connections.note_waiting(self)
        elif self.cycle.more_body:
            self._connections.note_reading(self)
        else:
            self._connections.note_responding(self)

    def _update_timer(self) -> None:
        if self._is_responding():
            self._clear_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(self._head_timeout, self._on_timeout)

    def _clear_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timeout(self) -> None:
        self._timer = None
        if not self._is_responding():
            self.transport.close()
            self._abort_soon()
