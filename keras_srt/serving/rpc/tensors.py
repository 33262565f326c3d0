"""Conversion of predict requests and responses of TF Serving's gRPC API."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from keras_srt.core.tensorflow import tf
from keras_srt.serving.engine.batching import Outputs
from keras_srt.serving.http.limits import Limits
from keras_srt.serving.http.predict_request import PredictRequest, check_request
from keras_srt.serving.http.protocol import RequestError
from keras_srt.serving.http.signatures import Signature, Signatures, TensorInfo

_DTYPES = {"DT_FLOAT": 4, "DT_STRING": 1}  # bytes of an element, without a string's content


def read_tensors(
    signature_name: str, inputs: Mapping[str, Any], signatures: Signatures, limits: Limits
) -> PredictRequest:
    """Convert the inputs of a request and check them.

    Args:
        signature_name: Name of the signature; "" for the default one.
        inputs: `TensorProto` by input name.
        signatures: Signatures of the model.
        limits: Limits of the server.

    Returns:
        The request; its shapes match the signature.

    Raises:
        RequestError: 400, the inputs don't match the signature; 413, they are too large.
    """
    signature = signatures.find(signature_name)
    if set(inputs) != set(signature.inputs):
        raise RequestError(
            400,
            f"The inputs are {sorted(inputs)}; allowed for the signature {signature.name}: "
            f"{sorted(signature.inputs)}",
        )
    arrays = {
        name: _to_array(name, inputs[name], info, limits) for name, info in signature.inputs.items()
    }
    request = PredictRequest(signature, arrays, rows=False)
    check_request(request, limits)
    return request


def _to_array(name: str, tensor: Any, info: TensorInfo, limits: Limits) -> Any:
    dtype = tf.dtypes.as_dtype(tensor.dtype).name if tensor.dtype else "no type"
    if info.dtype not in _DTYPES or tensor.dtype != _enum(info.dtype):
        raise RequestError(400, f"Input {name} has the type {dtype}; allowed: {info.dtype}")
    if tensor.tensor_shape.unknown_rank:
        raise RequestError(400, f"Input {name} has no shape")
    shape = tuple(dimension.size for dimension in tensor.tensor_shape.dim)
    info.check(name, shape)
    # A tensor may have fewer values than its shape: the last one is repeated.
    size = math.prod(shape) * _DTYPES[info.dtype]
    if min(shape, default=1) < 0 or size > limits.max_body:
        raise RequestError(413, f"Input {name} has {size:,} bytes; allowed: {limits.max_body:,}")
    try:
        return tf.make_ndarray(tensor)
    except (ValueError, TypeError) as error:
        raise RequestError(400, f"Input {name} can't be read: {error}") from error


def _enum(dtype: str) -> int:
    return tf.dtypes.as_dtype(dtype.removeprefix("DT_").lower()).as_datatype_enum


def chosen_outputs(outputs: Outputs, names: Sequence[str], signature: Signature) -> dict[str, Any]:
    """Convert outputs to `TensorProto`.

    Args:
        outputs: Arrays by output name.
        names: Names of the outputs that the client wants; none for all.
        signature: Signature of the request.

    Raises:
        RequestError: 400, the signature has no such output.
    """
    unknown = sorted(set(names) - set(signature.outputs))
    if unknown:
        raise RequestError(400, f"output_filter: got {unknown}; allowed: {list(signature.outputs)}")
    return {name: tf.make_tensor_proto(outputs[name]) for name in names or outputs}
