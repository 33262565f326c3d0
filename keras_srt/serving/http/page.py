"""The web page: its files, and what it asks of a model besides predictions."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import partial
from importlib import resources
from typing import Protocol

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from keras_srt.core.sample_images import EncodedSample
from keras_srt.serving.http.limits import Admission
from keras_srt.serving.http.protocol import Target, to_json
from keras_srt.serving.http.request_body import respond_to_body

_JSON = "application/json"
_VERSION = "/models/{name}/versions/{version:int}"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}


class PageModels(Protocol):
    """What the page needs of an engine besides predictions."""

    async def page(self, target: Target) -> bytes:
        """Return the sample images and the queries per attack of a model as JSON."""

    async def attack(self, target: Target, body: bytes) -> bytes:
        """Return the result of an attack on an image as JSON."""


class Page:
    """The web page.

    Args:
        models: The engine.
        admission: Limits of the server.
    """

    def __init__(self, models: PageModels, admission: Admission) -> None:
        self._models, self._admission = models, admission
        folder = resources.files("keras_srt.serving") / "page"
        self._files = {
            file.name: (file.read_bytes(), _TYPES[suffix])
            for file in (folder.iterdir() if folder.is_dir() else ())
            if (suffix := "." + file.name.rpartition(".")[2]) in _TYPES
        }

    def routes(self) -> Sequence[Route]:
        """Return the routes of the page."""
        return [
            Route("/", self._index),
            Route("/static/{name}", self._file),
            Route(f"{_VERSION}/page", self._about),
            Route(f"{_VERSION}/attack", self._attack, methods=["POST"]),
        ]

    async def _index(self, request: Request) -> Response:
        return self._respond(request, "index.html")

    async def _file(self, request: Request) -> Response:
        return self._respond(request, request.path_params["name"])

    async def _about(self, request: Request) -> Response:
        request.state.kind = "page"
        return Response(await self._models.page(_target(request)), media_type=_JSON)

    async def _attack(self, request: Request) -> Response:
        request.state.kind = "attack"
        attack = partial(self._models.attack, _target(request))
        return Response(await respond_to_body(request, self._admission, attack), media_type=_JSON)

    def _respond(self, request: Request, name: str) -> Response:
        request.state.kind = "page"
        if name not in self._files:
            raise HTTPException(404)
        content, media_type = self._files[name]
        return Response(content, media_type=media_type, headers={"cache-control": "no-cache"})


def page_document(samples: Sequence[EncodedSample], attack_queries: int) -> bytes:
    """Make the response to the page's question about a model.

    Args:
        samples: Sample images.
        attack_queries: Images per attack; 0 for no attacks.

    Example:
        >>> page_document([EncodedSample("cat", b"PNG")], 500)
        b'{"samples": [{"name": "cat", "b64": "UE5H"}], "attack_queries": 500}'
    """
    encoded = [{"name": name, "b64": base64.b64encode(png).decode()} for name, png in samples]
    return to_json({"samples": encoded, "attack_queries": attack_queries})


def _target(request: Request) -> Target:
    return Target.of(request.path_params["name"], request.path_params["version"])
