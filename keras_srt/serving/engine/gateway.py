"""A gateway before a TF Serving: decodes images, so that only checked floats reach it."""

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
from keras_srt.serving.http.predict_request import PredictRequest, parse_json, read_request
from keras_srt.serving.http.predict_response import answer_document
from keras_srt.serving.http.protocol import RequestError, Target, to_json
from keras_srt.serving.http.signatures import IMAGE_SIGNATURE, Signatures

# Floats in one request to the backend, some 10 MB of JSON.
_FLOATS = 2**20
_CONNECTIONS = 16
_CONNECT_SECONDS = 5.0
# A backend may take a new version at any time; its metadata is asked for again after this.
_METADATA_SECONDS = 2.0


class Gateway:
    """Answers requests by asking a TF Serving (or another `keras-srt serve`).

    Args:
        url: of the backend's REST port, as http://tf-serving:8501.
        names: of its models, for the page; a TF Serving can't be asked for them.
        limits: of this server.
        metrics: that count images.

    Raises:
        UserError: the address is none.
    """

    def __init__(self, url: str, names: Sequence[str], limits: Limits, metrics: Metrics) -> None:
        try:
            parsed = urllib3.util.parse_url(url)
        except urllib3.exceptions.LocationParseError as error:
            raise UserError(f"--backend {url}: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query:
            raise UserError(f"--backend {url}: no address; allowed: as http://localhost:8501")
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
        self._known: dict[Target, tuple[float, Signatures]] = {}

    async def names(self) -> list[str]:
        """Those given, else those that the backend says, if it is one that can."""
        if self._names:
            return self._names
        try:
            found = json.loads(await self._call("GET", "/models"))["models"]
        except (RequestError, ValueError, KeyError, TypeError):
            return []
        return found if isinstance(found, list) else []

    async def status(self, target: Target) -> bytes:
        """The backend's JSON of `GET /v1/models/NAME[/versions/N]`."""
        return await self._call("GET", target.path())

    async def metadata(self, target: Target) -> bytes:
        """The backend's JSON of `GET /v1/models/NAME[/versions/N]/metadata`."""
        return await self._call("GET", f"{target.path()}/metadata")

    async def predict(self, target: Target, body: bytes) -> bytes:
        """Answers `POST /v1/models/NAME[/versions/N]:predict`.

        Floats are checked and passed on as they came; encoded images are decoded here and go
        to the backend's signature `image`.

        Args:
            target: the model.
            body: of the request.

        Returns:
            The JSON.

        Raises:
            RequestError: the request can't be answered; the backend's errors are passed on.
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
            return to_json({"predictions": rows})
        return to_json({"outputs": {key: [row[key] for row in rows] for key in rows[0]}})

    def close(self) -> None:
        """Ends all threads and connections."""
        self._callers.shutdown()
        self._reader.shutdown()
        self._decoder.close()
        self._http.clear()

    async def _read(self, function: Callable[..., Any], *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader, function, *arguments)

    async def _signatures(self, target: Target) -> Signatures:
        asked, signatures = self._known.get(target, (-np.inf, None))
        if signatures is None or time.monotonic() - asked > _METADATA_SECONDS:
            with _readable("metadata"):
                signatures = Signatures(json.loads(await self.metadata(target)))
            # Only names that the backend knows come this far, so it doesn't grow.
            self._known[target] = time.monotonic(), signatures
        return signatures

    async def _rows(
        self, target: Target, request: PredictRequest, shape: tuple[int, int, int]
    ) -> list[dict[str, Any]]:
        """The backend's answers for encoded images, in parts that it can take."""
        (encoded,) = request.inputs.values()
        rows: list[dict[str, Any]] = []
        for part in self._decoder.parts(encoded):
            if part.large:
                images = await self._decoder.decode_large(part.images[0], shape)
            else:
                images = await self._read(self._decoder.decode, part.images, shape)
            size = max(1, _FLOATS // int(np.prod(shape)))
            for start in range(0, len(images), size):
                body = await self._read(_image_request, images[start : start + size])
                answer = await self._call("POST", f"{target.path()}:predict", body)
                with _readable("answer"):
                    rows += json.loads(answer)["predictions"]
        valid = np.array([row.get("valid", True) for row in rows])
        self._metrics.count_images(target.name, {"valid": valid})
        return rows

    async def _call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._callers, self._ask, method, path, body)

    def _ask(self, method: str, path: str, body: bytes | None) -> bytes:
        try:
            headers = {"Content-Type": "application/json"}
            answer = self._http.request(
                method, self._url + path, body=body, headers=headers, redirect=False
            )
        except urllib3.exceptions.ReadTimeoutError as error:
            raise RequestError(504, f"The backend {self._url} didn't answer in time") from error
        except urllib3.exceptions.HTTPError as error:
            raise RequestError(503, f"The backend {self._url} can't be reached") from error
        if answer.status == 200:
            return answer.data
        raise RequestError(answer.status, _error_text(answer.data))


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """Reads what the backend sent; what isn't as TF Serving sends it is the backend's fault."""
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(502, f"The backend's {what} can't be read") from error


def _image_request(images: np.ndarray) -> bytes:
    instances = answer_document({"image": images}, rows=True)["predictions"]
    return to_json({"signature_name": IMAGE_SIGNATURE, "instances": instances})


def _error_text(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return "The backend answered with an error that isn't JSON"
