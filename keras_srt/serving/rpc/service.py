"""The gRPC services of TF Serving, on its official stubs."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc
from google.protobuf import json_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from typing_extensions import override

from keras_srt.serving.engine.local_models import LocalModels
from keras_srt.serving.http.limits import Admission, Finished
from keras_srt.serving.http.protocol import RequestError, Target
from keras_srt.serving.rpc.tensors import chosen_outputs, read_tensors

_LOG = logging.getLogger(__name__)
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_METHODS = {
    "predict": "/tensorflow.serving.PredictionService/Predict",
    "metadata": "/tensorflow.serving.PredictionService/GetModelMetadata",
    "status": "/tensorflow.serving.ModelService/GetModelStatus",
}
# Larger requests are converted in a thread.
_SMALL_REQUEST = 2**16
_Compute = Callable[[], Awaitable[Any]]


class Services(
    prediction_service_pb2_grpc.PredictionServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    """`Predict`, `GetModelMetadata` and `GetModelStatus`; other methods are UNIMPLEMENTED.

    Args:
        models: The models.
        admission: Limits and metrics of the server, shared with REST.
    """

    def __init__(self, models: LocalModels, admission: Admission) -> None:
        self._models, self._admission = models, admission

    @override
    async def Predict(self, request: Any, context: Any) -> Any:
        return await self._respond("predict", context, partial(self._predict, request))

    @override
    async def GetModelMetadata(self, request: Any, context: Any) -> Any:
        return await self._respond("metadata", context, partial(self._metadata, request))

    @override
    async def GetModelStatus(self, request: Any, context: Any) -> Any:
        return await self._respond("status", context, partial(self._status, request))

    async def _respond(self, kind: str, context: Any, compute: _Compute) -> Any:
        """Compute a response, count it, and translate errors to status codes."""
        started, code = time.perf_counter(), grpc.StatusCode.CANCELLED
        try:
            response = await compute()
            code = grpc.StatusCode.OK
            return response
        except RequestError as error:
            code = _CODES.get(error.code, grpc.StatusCode.INTERNAL)
            return await context.abort(code, error.text)
        except asyncio.CancelledError:
            raise
        except Exception:
            code = grpc.StatusCode.INTERNAL
            _LOG.exception("Error in %s", kind)
            return await context.abort(code, "Internal error; see the log of the server")
        finally:
            seconds = time.perf_counter() - started
            self._admission.record(
                Finished(kind, code.name, seconds, context.peer(), "gRPC", _METHODS[kind])
            )

    async def _predict(self, request: Any) -> Any:
        size = request.ByteSize()
        with self._admission.held.hold(size):
            return await self._admission.run(partial(self._run, request, size > _SMALL_REQUEST))

    async def _run(self, request: Any, large: bool) -> Any:
        spec = request.model_spec
        read = partial(read_tensors, spec.signature_name, request.inputs)
        answer = await self._models.run(_target(spec), read, large)
        response = predict_pb2.PredictResponse()
        response.model_spec.name = spec.name
        response.model_spec.version.value = answer.version
        response.model_spec.signature_name = answer.request.signature.name
        chosen = chosen_outputs(answer.outputs, request.output_filter, answer.request.signature)
        for name, tensor in chosen.items():
            response.outputs[name].CopyFrom(tensor)
        return response

    async def _metadata(self, request: Any) -> Any:
        if list(request.metadata_field) != ["signature_def"]:
            raise RequestError(
                400, f"metadata_field: got {list(request.metadata_field)}; allowed: signature_def"
            )
        document = json.loads(await self._models.metadata(_target(request.model_spec)))
        signatures = get_model_metadata_pb2.SignatureDefMap()
        json_format.ParseDict(document["metadata"]["signature_def"], signatures)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        json_format.ParseDict(document["model_spec"], response.model_spec)
        response.metadata["signature_def"].Pack(signatures)
        return response

    async def _status(self, request: Any) -> Any:
        document = json.loads(await self._models.status(_target(request.model_spec)))
        return json_format.ParseDict(document, get_model_status_pb2.GetModelStatusResponse())


def _target(spec: Any) -> Target:
    if not spec.name:
        raise RequestError(400, "Missing ModelSpec")
    version = spec.version.value if spec.HasField("version") else None
    return Target.of(spec.name, version, spec.version_label or None)
