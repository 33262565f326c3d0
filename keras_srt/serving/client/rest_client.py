"""Clients of TF Serving's REST and gRPC protocols; `keras-srt serve` speaks the first."""

from __future__ import annotations

import base64
import importlib
import json
import os
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import numpy as np

from keras_srt.core.errors import UserError
from keras_srt.core.tensorflow import tf

_SIGNATURE = "serving_default"
_INPUT = "image_bytes"
_MODEL_PATH = re.compile(
    r"(?P<prefix>.*)/v1/models/(?P<name>[^/:]+)(?P<version>/versions/\d+)?(:predict)?/?"
)
# Until a busy server is given up: 6 seconds, or up to 30 where it says how long to wait.
_BUSY_RETRIES = 6
_LONGEST_WAIT = 5
# A batch holds some MiB; gRPC's own limit for an answer is 4 MiB.
_GRPC_MESSAGE_BYTES = 256 * 2**20


class Refused(UserError):
    """The server answered this request with an error; another one may pass."""


@dataclass(frozen=True)
class Predictions:
    """A server's answer to a batch of images.

    Attributes:
        probabilities: float32 [batch, classes]; 0 for an invalid image.
        valid: bool [batch]; false for an image that the server couldn't read.
        classes: the names of the classes in the order of their ids.
    """

    probabilities: np.ndarray
    valid: np.ndarray
    classes: tuple[str, ...]


class RestClient:
    """Asks a model behind TF Serving's REST protocol, over connections that are kept.

    A busy server (503) and a lost connection are tried again, with growing pauses. Threads
    may share a client.

    Args:
        address: `http://host:8501`, or `http://host:8501/v1/models/NAME[/versions/N]`.
        name: of the model, where the address has none; by default the only one there.
        timeout: in seconds, for each request.
        connections: that are kept at most.

    Attributes:
        name: of the model.
        version: of the model when the client was made.

    Raises:
        UserError: the address can't be read or reached, or has no such model.

    Example:
        >>> client = RestClient("http://127.0.0.1:8501", "digits_pixel")  # doctest: +SKIP
        >>> client.predict([Path("7.png").read_bytes()]).probabilities  # doctest: +SKIP
        array([[0.01, …]], dtype=float32)
    """

    def __init__(
        self, address: str, name: str | None = None, timeout: float = 30.0, connections: int = 4
    ) -> None:
        self._session = _rest_session(connections)
        self._timeout = timeout
        root, found, version = _split_address(address)
        _same_name(found, name)
        self.name: str = found or name or self._only_model(root)
        self._url = f"{root}/v1/models/{quote(self.name, safe='')}{version}"
        metadata = self._request("GET", f"{self._url}/metadata")
        try:
            self.version = str(metadata["model_spec"]["version"])
            signatures = metadata["metadata"]["signature_def"]["signature_def"]
            self.choose_signature(signatures)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{self._url}: doesn't answer as TF Serving does") from error

    def choose_signature(self, signatures: Mapping[str, Any]) -> None:
        """Checks that the model has the signature that is asked.

        Args:
            signatures: of the model, as its metadata has them, by name.

        Raises:
            UserError: it hasn't.
        """
        _check_inputs(self._url, list(signatures.get(_SIGNATURE, {}).get("inputs", {})))

    def predict(self, images: Sequence[bytes]) -> Predictions:
        """Asks for the classes of encoded images.

        Args:
            images: PNG or JPEG files' content; at least one.

        Returns:
            The answer, in the order of the images.

        Raises:
            Refused: the server refuses this request.
            UserError: the server can't be reached, stays busy, or its model is gone.
        """
        rows = [{_INPUT: {"b64": base64.b64encode(image).decode("ascii")}} for image in images]
        body = {"signature_name": _SIGNATURE, "instances": rows}
        answer = self._request("POST", f"{self._url}:predict", body)
        try:
            predictions = answer["predictions"]
            return _predictions(
                len(images),
                [row["probabilities"] for row in predictions],
                [row["valid"] for row in predictions],
                predictions[0]["classes"],
            )
        except (KeyError, TypeError, IndexError) as error:
            raise _strange_answer(self._url) from error

    def close(self) -> None:
        """Closes the connections."""
        self._session.close()

    def _only_model(self, root: str) -> str:
        """Asks `keras-srt serve` for its models; TF Serving itself can't tell."""
        try:
            models = self._request("GET", f"{root}/models")["models"]
        except (Refused, KeyError, TypeError) as error:
            raise UserError(f"{root}: doesn't say which models it has; give --name NAME") from error
        if len(models) != 1:
            raise UserError(f"{root}: has the models {', '.join(models)}; give --name NAME")
        return models[0]

    def _request(self, method: str, url: str, body: Any = None) -> Any:
        import requests

        try:
            response = self._session.request(method, url, json=body, timeout=self._timeout)
        except (requests.RequestException, UnicodeError) as error:
            raise UserError(f"{url}: can't be reached ({_innermost(error)})") from error
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if response.ok and answer is not None:
            return answer
        text = answer.get("error") if isinstance(answer, dict) else None
        problem = f"{url}: HTTP {response.status_code} ({str(text or response.reason)[:300]})"
        if response.status_code == 503:
            raise UserError(f"{problem}; busy or starting, try again later")
        if response.ok:
            raise UserError(f"{url}: answers with something else than JSON")
        if response.status_code == 404 and method == "POST":
            raise UserError(problem)
        raise Refused(problem)


def _rest_session(connections: int) -> Any:
    import requests
    import urllib3

    # Asking twice does no harm, so that every method may be retried.
    retries = urllib3.Retry(
        total=None,
        connect=2,
        read=1,
        redirect=0,
        status=_BUSY_RETRIES,
        status_forcelist=[503],
        allowed_methods=None,
        backoff_factor=0.1,
        backoff_max=_LONGEST_WAIT,
        retry_after_max=_LONGEST_WAIT,
        raise_on_status=False,
    )
    adapter = requests.adapters.HTTPAdapter(
        max_retries=retries, pool_connections=1, pool_maxsize=connections
    )
    session = requests.Session()
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


class GrpcClient:
    """Asks a model behind TF Serving's gRPC protocol, on its official stubs.

    A server that is unavailable is tried again, with growing pauses. Threads may share a
    client.

    Args:
        address: `host:8500`, `https://host:8500` for TLS; a path `/v1/models/NAME` may follow.
        name: of the model, where the address has none.
        timeout: in seconds, for each request.

    Attributes:
        name: of the model.
        version: of the model when the client was made.

    Raises:
        UserError: the address can't be read or reached, or has no such model.

    Example:
        >>> client = GrpcClient("127.0.0.1:8500", "digits_pixel")  # doctest: +SKIP
        >>> client.predict([Path("7.png").read_bytes()]).valid  # doctest: +SKIP
        array([ True])
    """

    def __init__(self, address: str, name: str | None = None, timeout: float = 30.0) -> None:
        root, found, version = _split_address(address)
        _same_name(found, name)
        if not (found or name):
            raise UserError(f"{address}: a gRPC server doesn't name its models; give --name NAME")
        self.name: str = found or str(name)
        self._asked_version = int(version.rpartition("/")[2]) if version else None
        self._address, self._timeout = address, timeout
        self._apis = _grpc_apis()
        self._channel = _grpc_channel(root)
        self._stub = self._apis.prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self.version = self._check_model()

    def predict(self, images: Sequence[bytes]) -> Predictions:
        """Asks for the classes of encoded images; see `RestClient.predict`."""
        request = self._apis.predict_pb2.PredictRequest()
        request.model_spec.CopyFrom(self._model_spec())
        request.model_spec.signature_name = _SIGNATURE
        request.inputs[_INPUT].CopyFrom(tf.make_tensor_proto(list(images), dtype=tf.string))
        request.output_filter.extend(["probabilities", "valid", "classes"])
        outputs = self._call(self._stub.Predict, request).outputs
        try:
            rows, valid, names = (
                tf.make_ndarray(outputs[key]) for key in ("probabilities", "valid", "classes")
            )
            classes = [name.decode("utf-8", "replace") for name in names[0]]
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise _strange_answer(self._address) from error
        return _predictions(len(images), rows, valid, classes)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def _model_spec(self) -> Any:
        spec = self._apis.model_pb2.ModelSpec(name=self.name)
        if self._asked_version is not None:
            spec.version.value = self._asked_version
        return spec

    def _check_model(self) -> str:
        """Checks that the model takes encoded images, and returns its version."""
        messages = self._apis.get_model_metadata_pb2
        request = messages.GetModelMetadataRequest(
            model_spec=self._model_spec(), metadata_field=["signature_def"]
        )
        answer = self._call(self._stub.GetModelMetadata, request)
        signatures = messages.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(signatures)
        where = f"{self._address}: {self.name}"
        _check_inputs(where, list(signatures.signature_def[_SIGNATURE].inputs))
        return str(answer.model_spec.version.value)

    def _call(self, method: Any, request: Any) -> Any:
        import grpc

        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            code, text = error.code(), str(error.details())[:300]
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED):
            raise UserError(f"{self._address}: can't be reached by gRPC ({text})")
        if code == grpc.StatusCode.NOT_FOUND:
            raise UserError(f"{self._address}: {text}")
        raise Refused(f"{self._address}: {code.name} ({text})")


def _grpc_apis() -> types.ModuleType:
    """The package of the official stubs, which import TensorFlow; that is quiet here."""
    tf.version  # noqa: B018
    for name in ("get_model_metadata_pb2", "predict_pb2", "prediction_service_pb2_grpc"):
        importlib.import_module(f"tensorflow_serving.apis.{name}")
    return importlib.import_module("tensorflow_serving.apis")


def _grpc_channel(root: str) -> Any:
    # Its C core else reports on stderr that a server said goodbye.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    import grpc

    retries = {
        "maxAttempts": 5,
        "initialBackoff": "0.2s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    service = {"service": "tensorflow.serving.PredictionService"}
    options = [
        ("grpc.max_receive_message_length", _GRPC_MESSAGE_BYTES),
        ("grpc.max_send_message_length", _GRPC_MESSAGE_BYTES),
        (
            "grpc.service_config",
            json.dumps({"methodConfig": [{"name": [service], "retryPolicy": retries}]}),
        ),
    ]
    scheme, _, target = root.partition("://")
    if scheme == "https":
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(), options)
    return grpc.insecure_channel(target, options)


def _split_address(address: str) -> tuple[str, str | None, str]:
    """`http://host:8501[/v1/models/NAME[/versions/N]]` -> root, name or None, `/versions/N` or ''.

    Raises:
        UserError: it has another form.
    """
    parts = urlsplit(address if "://" in address else f"http://{address}")
    try:
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number
        known = False
    path = parts.path.rstrip("/")
    match = _MODEL_PATH.fullmatch(path)
    if not known or parts.query or parts.fragment or (path and not match):
        raise UserError(
            f"--server {address}: allowed: http://host:8501 or "
            "http://host:8501/v1/models/NAME[/versions/N]"
        )
    root = f"{parts.scheme}://{parts.netloc}"
    if match is None:
        return root, None, ""
    return root + match["prefix"], unquote(match["name"]), match["version"] or ""


def _same_name(in_address: str | None, given: str | None) -> None:
    if in_address and given and in_address != given:
        raise UserError(f"--name {given}: the address names the model {in_address}; give one")


def _check_inputs(where: str, inputs: Sequence[str]) -> None:
    if list(inputs) != [_INPUT]:
        raise UserError(
            f"{where}: its signature {_SIGNATURE!r} takes {', '.join(inputs) or 'nothing'}; "
            f"allowed: {_INPUT}, as in models that `keras-srt export` wrote"
        )


def _predictions(count: int, probabilities: Any, valid: Any, classes: Sequence[str]) -> Predictions:
    try:
        made = Predictions(
            np.asarray(probabilities, np.float32), np.asarray(valid, bool), tuple(map(str, classes))
        )
    except ValueError as error:  # rows of different lengths, text
        raise _strange_answer(f"{count} images") from error
    if made.probabilities.shape != (count, len(made.classes)) or made.valid.shape != (count,):
        raise _strange_answer(f"{count} images")
    return made


def _strange_answer(where: str) -> UserError:
    return UserError(
        f"{where}: the server's answer has no probabilities, valid and classes for each image; "
        "allowed: a model that `keras-srt export` wrote"
    )


def _innermost(error: BaseException) -> str:
    """The first cause, which says most: `Connection refused`."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
