"""Predict requests of TF Serving's REST API, in row or column format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from keras_srt.serving.http.json_tensors import is_object, shown, tensor_from_json
from keras_srt.serving.http.limits import Limits
from keras_srt.serving.http.protocol import RequestError
from keras_srt.serving.http.signatures import Signature, Signatures, TensorInfo

# Error message of Python's parser -> message of RapidJSON, which TF Serving uses.
_PARSE_ERRORS = {
    "Expecting value": "Invalid value.",
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Illegal trailing comma before end of object": "Missing a name for object member.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Expecting ',' delimiter": "Missing a comma or ] after an array element.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
    "Extra data": "The document root must not be followed by other values.",
}


@dataclass(frozen=True)
class PredictRequest:
    """A valid predict request.

    Attributes:
        signature: The requested signature.
        inputs: Arrays by input name; strings are object arrays of bytes.
        rows: Whether request and response are in row format.
    """

    signature: Signature
    inputs: dict[str, np.ndarray]
    rows: bool

    @property
    def count(self) -> int:
        """Number of images."""
        return len(next(iter(self.inputs.values())))


def parse_json(body: bytes, limits: Limits) -> dict[str, Any]:
    """Parse a request body.

    Args:
        body: JSON text, UTF-8.
        limits: Limits on values and objects; parsed values take many times the memory of their
            text.

    Returns:
        The JSON object.

    Raises:
        RequestError: 400 if the body is not a JSON object, 413 for too many values.
    """
    if not body:
        raise RequestError(400, "JSON Parse error: The document is empty")
    values = body.count(b",") + body.count(b"[")
    if values > limits.max_values or body.count(b"{") > limits.max_objects:
        raise RequestError(
            413,
            f"Too many values; allowed: {limits.max_values:,} numbers and lists, and "
            f"{limits.max_objects:,} objects in a request",
        )
    document = _parse_fast(body)
    if document is not None:
        return document
    try:
        document = json.loads(body.decode("utf-8-sig"), object_pairs_hook=_without_duplicates)
    except UnicodeDecodeError as error:
        raise _parse_error("Invalid encoding in string.", error.start) from error
    except json.JSONDecodeError as error:
        text = _PARSE_ERRORS.get(error.msg, "Invalid escape character in string.")
        raise _parse_error(text, error.pos) from error
    except (RecursionError, ValueError) as error:  # nested too deeply; too many digits
        raise _parse_error("Terminate parsing due to Handler error.", 0) from error
    if not isinstance(document, dict):
        raise RequestError(400, f"JSON Value: {shown(document)} Is not object")
    return document


def _parse_fast(body: bytes) -> dict[str, Any] | None:
    """Parse a body by orjson, in half of the time or less.

    Returns:
        The object; None if orjson refuses it, as it does NaN, or if a name may occur twice, for
        which orjson takes the last value.
    """
    try:
        document = orjson.loads(body)
        # Each name has a colon; a colon within a string only leads to the other parser.
        unique = isinstance(document, dict) and body.count(b":") == _count_names(document)
    except (orjson.JSONDecodeError, RecursionError):
        return None
    return document if unique else None


def _count_names(value: Any) -> int:
    """Count the names of objects; objects that follow a number in a list are left out."""
    if isinstance(value, dict):
        return len(value) + sum(map(_count_names, value.values()))
    if isinstance(value, list) and value and isinstance(value[0], dict | list):
        return sum(map(_count_names, value))
    return 0


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object, whose names must differ: parsers disagree on which of two values counts."""
    made = dict(pairs)
    if len(made) < len(pairs):
        raise RequestError(400, "JSON Parse error: An object has the same name twice")
    return made


def _parse_error(text: str, offset: int) -> RequestError:
    return RequestError(400, f"JSON Parse error: {text} at offset: {offset}")


def read_request(
    document: Mapping[str, Any], signatures: Signatures, limits: Limits
) -> PredictRequest:
    """Convert a parsed body to a predict request and check it.

    Args:
        document: Parsed body.
        signatures: Signatures of the model.
        limits: Limit on images.

    Returns:
        The request; its shapes match the signature.

    Raises:
        RequestError: 400, with the message of TF Serving; 413 for too many images.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise RequestError(
            400,
            f"JSON Value: {shown(document)} not formatted correctly. 'signature_name' key must "
            "be a string value.",
        )
    signature = signatures.find(name)
    rows = "instances" in document
    if not rows and "inputs" not in document:
        raise RequestError(400, "Missing 'inputs' or 'instances' key")
    if rows and "inputs" in document:
        raise RequestError(
            400,
            f"JSON Value: {shown(document)} Not formatted correctly expecting only one of "
            "'inputs' or 'instances' keys to exist ",
        )
    inputs = (
        _from_rows(document, signature) if rows else _from_columns(document["inputs"], signature)
    )
    request = PredictRequest(signature, inputs, rows)
    check_request(request, limits)
    return request


def check_request(request: PredictRequest, limits: Limits) -> None:
    """Check the tensors of a request.

    Args:
        request: The request.
        limits: Limit on images.

    Raises:
        RequestError: 400, wrong shapes or values; 413, too many images.
    """
    _check_tensors(request.inputs, request.signature)
    if request.count > limits.max_images:
        raise RequestError(
            413, f"{request.count:,} images in a request; allowed: {limits.max_images:,}"
        )


def _check_tensors(inputs: Mapping[str, np.ndarray], signature: Signature) -> None:
    for name, tensor in inputs.items():
        signature.inputs[name].check(name, tensor.shape)
        if not tensor.size:
            raise RequestError(400, f"Input {name} is empty")
        # Signatures with the output `valid` handle NaN themselves; others would return NaN.
        numbers = tensor.dtype == np.float32 and "valid" not in signature.outputs
        if numbers and not np.isfinite(tensor).all():
            raise RequestError(400, f"Input {name} has NaN or infinite values")
    if len({tensor.shape[:1] for tensor in inputs.values()} | {()}) != 2:
        raise RequestError(400, "Every input needs the batch, of one size, as first dimension")


def _from_rows(document: Mapping[str, Any], signature: Signature) -> dict[str, np.ndarray]:
    rows, names = document["instances"], sorted(signature.inputs)
    if not isinstance(rows, list):
        raise RequestError(
            400, f"JSON Value: {shown(document)} Excepting 'instances' to be an list/array"
        )
    if not rows:
        raise RequestError(400, f"JSON Value: {shown(document)} No values in 'instances' array")
    if not isinstance(rows[0], dict) and len(names) > 1:
        raise RequestError(
            400,
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map",
        )
    if not is_object(rows[0]):
        for index, row in enumerate(rows):
            if is_object(row):
                raise RequestError(
                    400, f"Expecting value/list but got object at item {index} of input list"
                )
        return {names[0]: _stack(rows, signature.inputs[names[0]], "")}
    _check_objects(rows, names)
    return {
        name: _stack([row[name] for row in rows], signature.inputs[name], f" key: {name}")
        for name in names
    }


def _check_objects(rows: list[Any], names: list[str]) -> None:
    """Check that each row is an object with exactly the names of the inputs."""
    for index, row in enumerate(rows):
        if not is_object(row):
            raise RequestError(400, f"Expecting object but got list at item {index} of input list")
        unknown = [key for key in row if key not in names]
        if unknown:
            raise RequestError(
                400,
                f"Failed to process element: {index} key: {unknown[0]} of 'instances' list. Error: "
                f"INVALID_ARGUMENT: JSON object: does not have named input: {unknown[0]}",
            )
        if len(row) != len(names):
            raise RequestError(
                400,
                f"Failed to process element: {index} of 'instances' list. JSON object: "
                f"{shown(row)} keys must be equal to: {','.join(names)}",
            )


def _stack(rows: list[Any], info: TensorInfo, key: str) -> np.ndarray:
    """Convert all rows to one tensor; on failure, report the first invalid row."""
    try:
        return tensor_from_json(rows, info.dtype)
    except RequestError:
        first: np.ndarray | None = None
        for index, row in enumerate(rows):
            try:
                tensor = tensor_from_json(row, info.dtype)
                first = tensor if first is None else first
                _check_same_shape(first, tensor)
            except RequestError as error:
                raise RequestError(
                    400,
                    f"Failed to process element: {index}{key} of 'instances' list. Error: "
                    f"INVALID_ARGUMENT: {error.text}",
                ) from error
        raise


def _check_same_shape(first: np.ndarray, tensor: np.ndarray) -> None:
    if tensor.size != first.size:
        raise RequestError(400, f"Expecting tensor size: {first.size} but got: {tensor.size}")
    if tensor.shape != first.shape:
        expected, got = (",".join(map(str, shape)) for shape in (first.shape, tensor.shape))
        raise RequestError(400, f"Expecting shape [{expected}] but got: [{got}]")


def _from_columns(value: Any, signature: Signature) -> dict[str, np.ndarray]:
    if not is_object(value):
        if len(signature.inputs) > 1:
            raise RequestError(
                400,
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map",
            )
        ((name, info),) = signature.inputs.items()
        return {name: tensor_from_json(value, info.dtype)}
    for name in signature.inputs:
        if name not in value:
            raise RequestError(400, f"Missing named input: {name} in 'inputs' object.")
    return {
        name: tensor_from_json(value[name], info.dtype) for name, info in signature.inputs.items()
    }
