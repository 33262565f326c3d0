"""Reading of request bodies within the limits of the server."""

from __future__ import annotations

import asyncio
from asyncio import FIRST_COMPLETED
from collections.abc import Awaitable, Callable
from functools import partial

from starlette.requests import Request

from keras_srt.serving.http.inflate import Inflater
from keras_srt.serving.http.limits import Admission, Budget
from keras_srt.serving.http.protocol import RequestError, too_many_connections


async def respond_to_body(
    request: Request, admission: Admission, compute: Callable[[bytes], Awaitable[bytes]]
) -> bytes:
    """Read the body of a request and compute the response, both within the limits.

    Args:
        request: The request; its state gets `body_read` when the body is read.
        admission: Limits of the server.
        compute: Body -> response.

    Returns:
        The response.

    Raises:
        RequestError: 408, 413 or 415 for the body; 503, the server is busy; 504, the computation
            took too long.
    """
    limits = admission.limits
    with _Body(request, limits.max_body, admission.held) as body:
        await _read_in_time(body, request.state.connection.evicted, limits.timeout)
        return await admission.run(partial(compute, body.pop()))


class _Body:
    """A request body, which counts against the memory budget until the response is sent."""

    def __init__(self, request: Request, limit: int, held: Budget) -> None:
        self._request, self._limit, self._held = request, limit, held
        self._bytes, self._taken = bytearray(), 0

    def __enter__(self) -> _Body:
        return self

    def __exit__(self, *error: object) -> None:
        self._held.release(self._taken)

    async def read(self) -> None:
        headers = self._request.headers
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity", "gzip"):
            raise RequestError(415, f"Content-Encoding: got {encoding}; allowed: gzip or none")
        inflate = Inflater() if encoding == "gzip" else None
        self._check(int(headers.get("content-length", 0)))
        async for chunk in self._request.stream():
            for part in (chunk,) if inflate is None else inflate.parts(chunk):
                self._check(self._taken + len(part))
                self._held.acquire(len(part))
                self._taken += len(part)
                self._bytes += part
        if inflate is not None:
            inflate.check_end()
        self._request.state.body_read = True

    def pop(self) -> bytes:
        """Return the body and drop the reference to it."""
        body, self._bytes = bytes(self._bytes), bytearray()
        return body

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise RequestError(
                413, f"The request's body has {size:,} bytes or more; allowed: {self._limit:,}"
            )


async def _read_in_time(body: _Body, evicted: asyncio.Future[None], timeout: float) -> None:
    """Read a body, unless it takes too long or its connection is closed for another one."""
    reading = asyncio.ensure_future(body.read())
    try:
        await asyncio.wait((reading, evicted), timeout=timeout, return_when=FIRST_COMPLETED)
        if reading.done():
            reading.result()
        elif evicted.done():
            raise too_many_connections()
        else:
            raise RequestError(408, f"The request's body took more than {timeout:g} s", closes=True)
    finally:
        reading.cancel()
