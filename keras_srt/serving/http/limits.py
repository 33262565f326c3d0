"""Limits of a server, so that no request can exhaust its memory."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import NamedTuple, TypeVar

from keras_srt.core.images import MAX_BYTES, MAX_PIXELS
from keras_srt.serving.http.metrics import Metrics
from keras_srt.serving.http.protocol import RequestError

_Result = TypeVar("_Result")

# Its level doesn't follow that of the other messages.
ACCESS_LOG = logging.getLogger(f"{__name__}.access")
ACCESS_LOG.setLevel(logging.INFO)
MEGABYTE = 2**20


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Attributes:
        max_body: Bytes per request body.
        max_images: Images per request.
        max_connections: Connections at a time; see `Connections`.
        max_queue: Requests that may wait or run at a time; further ones are refused with 503.
        timeout: Seconds each for the head and the body of a request, and for its response.
        drain: Seconds in which clients may end their connections, before the server closes them.
        max_batch: Images per call of the model.
        max_image_bytes: Bytes per encoded image.
        max_pixels: Pixels per encoded image.
        attack_queries: Images per attack of the page; 0 for no attacks.
        attack_seconds: Seconds after which an attack ends without a result.

    Example:
        >>> Limits(max_body=MEGABYTE).max_values
        65536
    """

    max_body: int = 32 * MEGABYTE
    max_images: int = 1024
    max_connections: int = 4096
    max_queue: int = 256
    timeout: float = 30.0
    drain: float = 1.0
    max_batch: int = 32
    max_image_bytes: int = MAX_BYTES
    max_pixels: int = MAX_PIXELS
    attack_queries: int = 500
    attack_seconds: float = 10.0

    @property
    def max_values(self) -> int:
        """Numbers and lists per request; each takes about 70 bytes when parsed."""
        return self.max_body // 16

    @property
    def max_objects(self) -> int:
        """JSON objects per request; each image needs up to two."""
        return 4 * self.max_images

    @property
    def max_held(self) -> int:
        """Bytes of all request bodies in memory."""
        return 2 * self.max_body


class Budget:
    """A counter with a limit, to be used in one event loop.

    Args:
        total: The limit.
        what: Name of the resource, for error messages.

    Example:
        >>> budget = Budget(2, "seats")
        >>> with budget.hold(2):
        ...     budget.used
        2
        >>> budget.used
        0
    """

    def __init__(self, total: int, what: str) -> None:
        self.total, self.what, self.used = total, what, 0

    def acquire(self, amount: int) -> None:
        """Acquire an amount.

        Raises:
            RequestError: 503, the amount exceeds what is left.
        """
        if self.used + amount > self.total:
            raise RequestError(
                503, f"The server is busy: all its {self.what} are in use; try again in a second"
            )
        self.used += amount

    def release(self, amount: int) -> None:
        """Release an acquired amount."""
        self.used -= amount

    @contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Acquire an amount for the duration of a block."""
        self.acquire(amount)
        try:
            yield
        finally:
            self.release(amount)


class Finished(NamedTuple):
    """A request that got its response.

    Attributes:
        kind: predict, status, metadata, health, page, attack or other.
        code: HTTP status code, or the name of a gRPC status.
        seconds: Duration.
        client: Address of the client.
        method: HTTP method, or "gRPC".
        path: Path, without the query.
    """

    kind: str
    code: int | str
    seconds: float
    client: str
    method: str
    path: str


class Admission:
    """Admits requests of all protocols within shared limits, and records them.

    Args:
        limits: Limits of the server.
        metrics: Metrics of the server.
        access_log: Whether to log each request as a line of JSON.

    Attributes:
        limits: As given.
        metrics: As given.
        held: Budget of bytes of request bodies.
    """

    def __init__(self, limits: Limits, metrics: Metrics, access_log: bool = False) -> None:
        self.limits, self.metrics, self._access_log = limits, metrics, access_log
        self.held = Budget(limits.max_held, "bytes for request bodies")
        self._queue = Budget(limits.max_queue, "places in the queue")
        metrics.watch(lambda: self._queue.used, "queue_length", "Requests waiting or running")

    async def run(self, compute: Callable[[], Awaitable[_Result]]) -> _Result:
        """Compute a response within the limits.

        Raises:
            RequestError: 503, the queue is full; 504, the computation took too long.
        """
        timeout = self.limits.timeout
        with self._queue.hold(1):
            try:
                return await asyncio.wait_for(compute(), timeout)
            except asyncio.TimeoutError as error:
                raise RequestError(504, f"Timed out after {timeout:g} s") from error

    def record(self, request: Finished) -> None:
        """Count a request, and log it if the access log is on."""
        self.metrics.count_request(request.kind, request.code, request.seconds)
        if self._access_log:
            line = {
                "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
                "client": request.client,
                "method": request.method,
                "path": request.path,
                "code": request.code,
                "milliseconds": round(1000 * request.seconds, 2),
            }
            ACCESS_LOG.info("%s", json.dumps(line))
