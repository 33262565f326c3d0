"""The web application: routes, limits, headers and metrics."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keras_srt.serving.http.limits import Admission, Finished
from keras_srt.serving.http.metrics import CONTENT_TYPE
from keras_srt.serving.http.page import Page, PageModels
from keras_srt.serving.http.protocol import (
    RequestError,
    Target,
    parse_path,
    to_json,
    too_many_connections,
)
from keras_srt.serving.http.request_body import respond_to_body

_JSON = "application/json"
_SAFE_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
]
_HEALTH = "/health"
# For the body of a request that is refused, because its connection is beyond the limit.
_REFUSED_SECONDS = 1.0
# Methods to which TF Serving responds with "Malformed request" (400) instead of 405.
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class Models(PageModels, Protocol):
    """An engine: local models, or a gateway to a backend."""

    async def names(self) -> list[str]:
        """Return the names of the models."""

    async def status(self, target: Target) -> bytes:
        """Return the status of a model as JSON."""

    async def metadata(self, target: Target) -> bytes:
        """Return the signatures of a model as JSON."""

    async def predict(self, target: Target, body: bytes) -> bytes:
        """Return the response to a predict request as JSON."""


def make_app(models: Models, admission: Admission, origins: Sequence[str] = ()) -> ASGIApp:
    """Make the web application.

    Args:
        models: The engine that computes responses.
        admission: Limits of the server, and metrics, exposed at `/metrics`.
        origins: Origins of pages that browsers allow to send requests; "*" for all.

    Returns:
        An ASGI application.
    """
    api = _Api(models, admission)
    # The annotation of Starlette accepts only handlers of `Exception`.
    handlers: dict[type[Exception], Callable[..., Awaitable[Response]]] = {
        RequestError: api.refuse,
        HTTPException: _http_error,
        ClientDisconnect: _client_closed,
        Exception: _internal_error,
    }
    cors = Middleware(
        CORSMiddleware, allow_origins=origins, allow_methods=["GET", "POST"], allow_headers=["*"]
    )
    app = Starlette(
        routes=[
            Route("/v1/{rest:path}", api.respond, methods=_METHODS),
            Route("/models", api.names),
            Route(_HEALTH, _health),
            Route("/metrics", api.metrics),
            Route("/monitoring/prometheus/metrics", api.metrics),  # as in TF Serving
            *Page(models, admission).routes(),
        ],
        exception_handlers=handlers,
        middleware=[cors] if origins else [],
    )
    return _Observed(app, admission)


class _Api:
    def __init__(self, models: Models, admission: Admission) -> None:
        self._models, self._admission, self._limits = models, admission, admission.limits

    async def names(self, request: Request) -> Response:
        return Response(to_json({"models": await self._models.names()}), media_type=_JSON)

    async def metrics(self, request: Request) -> Response:
        return Response(self._admission.metrics.page(), media_type=CONTENT_TYPE)

    async def respond(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"allow": "GET, POST, OPTIONS"})
        call = parse_path(request.method, request.scope["path"])
        request.state.kind = call.action
        if call.action == "predict":
            predict = partial(self._models.predict, call.target)
            body = await respond_to_body(request, self._admission, predict)
        elif call.action == "metadata":
            body = await self._models.metadata(call.target)
        else:
            body = await self._models.status(call.target)
        return Response(body, media_type=_JSON)

    async def refuse(self, request: Request, error: RequestError) -> Response:
        if _has_unread_body(request) and not error.closes:
            return _EarlyResponse(error, self._limits.timeout)
        return Response(error.body(), error.code, error.headers(), _JSON)


def _has_unread_body(request: Request) -> bool:
    headers = request.headers
    announced = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    return announced and not getattr(request.state, "body_read", False)


class _EarlyResponse(Response):
    """A response to a client that is still sending; the rest of the body is read and dropped.

    Closing a connection with an unread body resets it, and the client never gets the response.
    """

    def __init__(self, error: RequestError, seconds: float) -> None:
        super().__init__(error.body(), error.code, error.headers(), _JSON)
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(_drop_body(receive), self._seconds)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _drop_body(receive: Receive) -> None:
    while (await receive()).get("more_body", False):
        pass


async def _health(request: Request) -> Response:
    request.state.kind = "health"
    draining = request.state.connection.draining
    code, status = (503, "draining") if draining else (200, "ok")
    return Response(to_json({"status": status}), code, media_type=_JSON)


async def _http_error(request: Request, error: HTTPException) -> Response:
    text = f"{error.detail}: {request.method} {request.scope['path']}"
    return Response(to_json({"error": text}), error.status_code, error.headers, _JSON)


async def _client_closed(request: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=499)  # only for the metrics


async def _internal_error(request: Request, error: Exception) -> Response:
    return Response(
        to_json({"error": "Internal error; see the log of the server"}), 500, None, _JSON
    )


def _without_origin(path: str) -> str:
    """Return the path of a URI in absolute form, which proxies send."""
    _, is_absolute, rest = path.partition("://")
    return path if path.startswith("/") or not is_absolute else "/" + rest.partition("/")[2]


class _Observed:
    """Counts every response and adds security headers."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app, self._admission = app, admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, code = time.perf_counter(), 500
        connection = scope["state"]["connection"]
        scope["path"] = _without_origin(scope["path"])

        async def send_and_note(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                closing = [(b"connection", b"close")] if connection.draining else []
                message["headers"] = [*message.get("headers", []), *_SAFE_HEADERS, *closing]
            await send(message)

        # Health must be known under load, too.
        refused = not connection.within_limit and scope["path"] != _HEALTH
        app = _EarlyResponse(too_many_connections(), _REFUSED_SECONDS) if refused else self._app
        try:
            await app(scope, receive, send_and_note)
        finally:
            kind, seconds = scope["state"].get("kind", "other"), time.perf_counter() - started
            client = scope["client"][0] if scope["client"] else ""
            self._admission.record(
                Finished(kind, code, seconds, client, scope["method"], scope["path"])
            )
