"""A gateway for TF Serving, which decodes images and passes checked floats to the backend."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import urllib3

from keras_srt.core.errors import UserError
from keras_srt.serving.engine.image_decoder import Decoder
from keras_srt.serving.http.limits import Limits
from keras_srt.serving.http.metrics import Metrics
from keras_srt.serving.http.page import page_document
from keras_srt.serving.http.predict_request import PredictRequest, parse_json, read_request
from keras_srt.serving.http.predict_response import response_document
from keras_srt.serving.http.protocol import RequestError, Target, to_json
from keras_srt.serving.http.signatures import IMAGE_SIGNATURE, Signatures

_MAX_FLOATS = 2**20  # per request to the backend, about 10 MB of JSON
_CONNECTIONS = 16
_CONNECT_SECONDS = 5.0
# Metadata are cached for this long, because the backend may load a new version at any time.
_METADATA_SECONDS = 2.0


class Gateway:
    """Forwards requests to TF Serving or another `keras-srt serve`.

    Args:
        url: REST address of the backend, such as http://tf-serving:8501.
        names: Names of its models, for the web page; TF Serving doesn't list them.
        limits: Limits of this server.
        metrics: Metrics that count images.

    Raises:
        UserError: The address is invalid.
    """

    def __init__(self, url: str, names: Sequence[str], limits: Limits, metrics: Metrics) -> None:
        try:
            parsed = urllib3.util.parse_url(url)
        except urllib3.exceptions.LocationParseError as error:
            raise UserError(f"--backend {url}: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query:
            raise UserError(f"--backend {url}: allowed: an address like http://localhost:8501")
        self._url, self._names = url.rstrip("/"), list(names)
        self._limits, self._metrics = limits, metrics
        self._decoder = Decoder(limits)
        self._http = urllib3.PoolManager(
            maxsize=_CONNECTIONS,
            timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=limits.timeout),
            retries=False,
        )
        self._callers = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="backend")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._cached: dict[Target, tuple[float, Signatures]] = {}

    async def names(self) -> list[str]:
        """Return the given names, or those that the backend lists, if it does."""
        if self._names:
            return self._names
        try:
            found = json.loads(await self._call("GET", "/models"))["models"]
        except (RequestError, ValueError, KeyError, TypeError):
            return []
        return found if isinstance(found, list) else []

    async def status(self, target: Target) -> bytes:
        """Return the backend's response to `GET /v1/models/NAME[/versions/N]`."""
        return await self._call("GET", target.path())

    async def metadata(self, target: Target) -> bytes:
        """Return the backend's response to `GET /v1/models/NAME[/versions/N]/metadata`."""
        return await self._call("GET", f"{target.path()}/metadata")

    async def predict(self, target: Target, body: bytes) -> bytes:
        """Respond to `POST /v1/models/NAME[/versions/N]:predict`.

        Floats are checked and forwarded unchanged; encoded images are decoded here and sent to the
        signature `image` of the backend.

        Args:
            target: The model.
            body: Body of the request.

        Returns:
            The response as JSON.

        Raises:
            RequestError: The request is invalid, or the backend responded with an error.
        """
        document = await self._read(parse_json, body, self._limits)
        signatures = await self._signatures(target)
        request = await self._read(read_request, document, signatures, self._limits)
        del document
        shape = signatures.image_shape
        if shape is None or not signatures.is_encoded(request.signature):
            return await self._call("POST", f"{target.path()}:predict", body)
        rows = await self._rows(target, request, shape)
        if request.rows:
            return to_json({"predictions": rows}, allow_nan=True)
        columns = {key: [row[key] for row in rows] for key in rows[0]}
        return to_json({"outputs": columns}, allow_nan=True)

    async def page(self, target: Target) -> bytes:
        """Return that there are no sample images and no attacks, which need the model itself."""
        return page_document([], 0)

    async def attack(self, target: Target, body: bytes) -> bytes:
        """Refuse an attack.

        Raises:
            RequestError: 403, always.
        """
        raise RequestError(403, "A gateway runs no attacks")

    def close(self) -> None:
        """Stop all threads and close all connections."""
        self._callers.shutdown()
        self._reader.shutdown()
        self._decoder.close()
        self._http.clear()

    async def _read(self, function: Callable[..., Any], *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader, function, *arguments)

    async def _signatures(self, target: Target) -> Signatures:
        loaded, signatures = self._cached.get(target, (-np.inf, None))
        if signatures is None or time.monotonic() - loaded > _METADATA_SECONDS:
            with _invalid_response_is_502("metadata"):
                signatures = Signatures(json.loads(await self.metadata(target)))
            # The cache is bounded, because only models of the backend get here.
            self._cached[target] = time.monotonic(), signatures
        return signatures

    async def _rows(
        self, target: Target, request: PredictRequest, shape: tuple[int, int, int]
    ) -> list[dict[str, Any]]:
        """Get the backend's predictions for encoded images, in requests of bounded size."""
        (encoded,) = request.inputs.values()
        rows: list[dict[str, Any]] = []
        for part in self._decoder.parts(encoded):
            if part.large:
                images = await self._decoder.decode_large(part.images[0], shape)
            else:
                images = await self._read(self._decoder.decode, part.images, shape)
            size = max(1, _MAX_FLOATS // int(np.prod(shape)))
            for start in range(0, len(images), size):
                body = await self._read(_image_request, images[start : start + size])
                response = await self._call("POST", f"{target.path()}:predict", body)
                with _invalid_response_is_502("response"):
                    rows += json.loads(response)["predictions"]
        valid = np.array([row.get("valid", True) for row in rows])
        self._metrics.count_images(target.name, {"valid": valid})
        return rows

    async def _call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._callers, self._request, method, path, body)

    def _request(self, method: str, path: str, body: bytes | None) -> bytes:
        try:
            headers = {"Content-Type": "application/json"}
            response = self._http.request(
                method, self._url + path, body=body, headers=headers, redirect=False
            )
        except urllib3.exceptions.ReadTimeoutError as error:
            raise RequestError(504, f"The backend {self._url} timed out") from error
        except urllib3.exceptions.HTTPError as error:
            raise RequestError(503, f"The backend {self._url} can't be reached") from error
        if response.status == 200:
            return response.data
        raise RequestError(response.status, _error_text(response.data))


@contextmanager
def _invalid_response_is_502(what: str) -> Iterator[None]:
    """Translate errors in reading a response of the backend to 502."""
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(502, f"The {what} of the backend can't be read") from error


def _image_request(images: np.ndarray) -> bytes:
    instances = response_document({"image": images}, rows=True)["predictions"]
    return to_json({"signature_name": IMAGE_SIGNATURE, "instances": instances})


def _error_text(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return "The backend responded with an error that is not JSON"
