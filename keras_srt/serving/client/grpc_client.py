"""A gRPC client that sends encoded images."""

from __future__ import annotations

import importlib
import json
import os
import types
from collections.abc import Sequence
from typing import Any

from keras_srt.core.errors import UserError
from keras_srt.core.tensorflow import tf
from keras_srt.serving.client.address import parse_address
from keras_srt.serving.client.predictions import (
    INPUT,
    SIGNATURE,
    Predictions,
    RequestRefused,
    check_inputs,
    invalid_response,
    make_predictions,
)

# A batch has some MiB; gRPC's default limit for a response is 4 MiB.
_MAX_MESSAGE_BYTES = 256 * 2**20


class GrpcClient:
    """Classifies encoded images by the gRPC protocol of TF Serving, with its official stubs.

    Unavailable servers are retried with increasing pauses. Threads may share a client.

    Args:
        address: `host:8500`, or `https://host:8500` for TLS; optionally followed by
            `/v1/models/NAME[/versions/N]`.
        name: Name of the model, for addresses without one.
        timeout: Seconds per request.

    Attributes:
        name: Name of the model.
        version: Version of the model at the time of construction.

    Raises:
        UserError: The address is invalid or unreachable, or has no such model.

    Example:
        >>> client = GrpcClient("127.0.0.1:8500", "digits_pixel")  # doctest: +SKIP
        >>> client.predict([Path("7.png").read_bytes()]).valid  # doctest: +SKIP
        array([ True])
    """

    def __init__(self, address: str, name: str | None = None, timeout: float = 30.0) -> None:
        parsed = parse_address(address, name)
        if not parsed.name:
            raise UserError(f"{address}: a gRPC server doesn't list its models; give --name NAME")
        self.name: str = parsed.name
        self._requested_version = parsed.version
        self._address, self._timeout = address, timeout
        self._apis = _import_apis()
        self._channel = _open_channel(parsed.root)
        self._stub = self._apis.prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self.version = self._check_model()

    def predict(self, images: Sequence[bytes]) -> Predictions:
        """Classify encoded images.

        Args:
            images: Content of PNG or JPEG files; at least one.

        Returns:
            The predictions, in the order of the images.

        Raises:
            RequestRefused: The server refuses this request.
            UserError: The server is unreachable, or the model is gone.
        """
        request = self._apis.predict_pb2.PredictRequest()
        request.model_spec.CopyFrom(self._model_spec())
        request.model_spec.signature_name = SIGNATURE
        request.inputs[INPUT].CopyFrom(tf.make_tensor_proto(list(images), dtype=tf.string))
        request.output_filter.extend(["probabilities", "valid", "classes"])
        outputs = self._call(self._stub.Predict, request).outputs
        try:
            rows, valid, names = (
                tf.make_ndarray(outputs[key]) for key in ("probabilities", "valid", "classes")
            )
            classes = [name.decode("utf-8", "replace") for name in names[0]]
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise invalid_response(self._address) from error
        return make_predictions(len(images), rows, valid, classes)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _model_spec(self) -> Any:
        spec = self._apis.model_pb2.ModelSpec(name=self.name)
        if self._requested_version is not None:
            spec.version.value = self._requested_version
        return spec

    def _check_model(self) -> str:
        """Check that the model takes encoded images, and return its version."""
        messages = self._apis.get_model_metadata_pb2
        request = messages.GetModelMetadataRequest(
            model_spec=self._model_spec(), metadata_field=["signature_def"]
        )
        response = self._call(self._stub.GetModelMetadata, request)
        signatures = messages.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        where = f"{self._address}: {self.name}"
        check_inputs(where, list(signatures.signature_def[SIGNATURE].inputs))
        return str(response.model_spec.version.value)

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
        raise RequestRefused(f"{self._address}: {code.name} ({text})")


def _import_apis() -> types.ModuleType:
    """Import the package of the official stubs, after importing TensorFlow without log lines."""
    tf.version  # noqa: B018
    for name in ("get_model_metadata_pb2", "predict_pb2", "prediction_service_pb2_grpc"):
        importlib.import_module(f"tensorflow_serving.apis.{name}")
    return importlib.import_module("tensorflow_serving.apis")


def _open_channel(root: str) -> Any:
    # Otherwise, gRPC's C core logs closed connections to stderr.
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
        ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
        (
            "grpc.service_config",
            json.dumps({"methodConfig": [{"name": [service], "retryPolicy": retries}]}),
        ),
    ]
    scheme, _, target = root.partition("://")
    if scheme == "https":
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(), options)
    return grpc.insecure_channel(target, options)
