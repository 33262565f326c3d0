"""Conversion of nested JSON lists to tensors, with the error messages of TF Serving.

After TF Serving's `json_tensor.cc`. Lists are checked and flattened level by level, by builtins
implemented in C; only if a check fails, slower code locates the error.
"""

from __future__ import annotations

import base64
import binascii
import json
from itertools import chain
from typing import Any

import numpy as np

from keras_srt.serving.http.protocol import RequestError

_FLOAT_MAX = float(np.finfo(np.float32).max)
_EXACT = 2**24 - 1  # whole numbers up to this are exact in float32
_SHOWN = 200
_MAX_RANK = 32  # limit of NumPy 1

# Tensor type -> allowed types of JSON values.
_JSON_TYPES: dict[str, set[type]] = {"DT_FLOAT": {int, float}, "DT_STRING": {str, dict}}
_JSON_NAMES = {type(None): "Null", dict: "Object", list: "Array", str: "String"}


def tensor_from_json(value: Any, dtype: str) -> np.ndarray:
    """Convert nested lists to an array.

    Args:
        value: Parsed JSON; all lists of a level have the same length.
        dtype: "DT_FLOAT" or "DT_STRING"; in the latter, `{"b64": …}` encodes bytes.

    Returns:
        The array.

    Raises:
        RequestError: 400, wrong type or ragged lists.

    Example:
        >>> tensor_from_json([[1, 2.5]], "DT_FLOAT")
        array([[1. , 2.5]], dtype=float32)
    """
    if dtype not in _JSON_TYPES:
        raise RequestError(400, f"Conversion of JSON Value: {shown(value)} to type: {dtype}")
    flat, shape = _flatten(value)
    if not set(map(type, flat)) <= _JSON_TYPES[dtype]:
        _raise_first_fault(value, 0, _leading_shape(value), dtype)
        raise RequestError(400, f"Encountered values that are not of type: {_short(dtype)}")
    if dtype == "DT_STRING":
        array = np.empty(len(flat), object)
        array[:] = [_to_bytes(item) for item in flat]
        return array.reshape(shape)
    _check_exact(flat)
    return np.array(flat, np.float32).reshape(shape)


def _flatten(value: Any) -> tuple[list[Any], tuple[int, ...]]:
    """Flatten lists level by level, while all items of a level are lists of the same length."""
    level: list[Any] = [value]
    shape: list[int] = []
    while level and len(shape) < _MAX_RANK and set(map(type, level)) == {list}:
        sizes = set(map(len, level))
        if len(sizes) != 1:
            break
        shape.append(sizes.pop())
        level = list(chain.from_iterable(level))
    return level, tuple(shape)


def _check_exact(flat: list[Any]) -> None:
    """Refuse numbers that float32 can't represent, as TF Serving does; NaN is accepted."""
    if int in set(map(type, flat)):
        for item in flat:
            if type(item) is int and abs(item) > _EXACT:
                raise _lossy(item)
    magnitudes = np.abs(np.array(flat, np.float64))
    too_large = np.isfinite(magnitudes) & (magnitudes > _FLOAT_MAX)
    if too_large.any():
        raise _lossy(flat[int(too_large.argmax())])


def _lossy(value: Any) -> RequestError:
    return RequestError(
        400, f"Cannot convert JSON value: {shown(value)} to float without loss of precision."
    )


def _leading_shape(value: Any) -> list[int]:
    """The shape along the first elements, to which the other elements are compared."""
    shape: list[int] = []
    while isinstance(value, list) and len(shape) < _MAX_RANK:
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _raise_first_fault(value: Any, level: int, shape: list[int], dtype: str) -> None:
    """Walk the lists in order and raise at the first mismatch."""
    if not isinstance(value, list):
        if level != len(shape):
            raise RequestError(
                400,
                f"JSON Value: {shown(value)} found at incorrect level: {level + 1} in the JSON "
                f"DOM. Expected at level: {len(shape)}",
            )
        if type(value) not in _JSON_TYPES[dtype]:
            raise RequestError(
                400,
                f"JSON Value: {shown(value)} Type: {_json_name(value)} is not of expected type: "
                f"{_short(dtype)}",
            )
        return
    if level >= len(shape):
        raise RequestError(
            400, f"Encountered list at unexpected level: {level} expected < {len(shape)}"
        )
    if len(value) != shape[level]:
        raise RequestError(
            400,
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: "
            f"{shape[level]}",
        )
    for item in value:
        _raise_first_fault(item, level + 1, shape, dtype)


def is_object(value: Any) -> bool:
    """Whether a value is an object of named inputs, and not an encoding of bytes.

    Args:
        value: Parsed JSON.

    Example:
        >>> is_object({"image": []}), is_object({"b64": "AA=="})
        (True, False)
    """
    return isinstance(value, dict) and not (set(value) == {"b64"} and isinstance(value["b64"], str))


def _to_bytes(value: str | dict[str, Any]) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if is_object(value):
        raise RequestError(
            400, f"JSON Value: {shown(value)} not formatted correctly for base64 data"
        )
    text = "".join(value["b64"].split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: not ASCII
        raise RequestError(400, "Unable to base64 decode") from error


def shown(value: Any) -> str:
    """Format the beginning of a value for an error message.

    Args:
        value: Parsed JSON.

    Example:
        >>> len(shown(list(range(1000))))
        70
    """
    text = json.dumps(_pruned(value), ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _pruned(value: Any, depth: int = 6) -> Any:
    """Copy a value with few items and short strings, without walking the rest."""
    if isinstance(value, str):
        return value[:_SHOWN]
    if isinstance(value, list | dict) and not depth:
        return "…"
    if isinstance(value, list):
        return [_pruned(item, depth - 1) for item in value[:20]]
    if isinstance(value, dict):
        return {key[:_SHOWN]: _pruned(value[key], depth - 1) for key in list(value)[:5]}
    return value


def _json_name(value: Any) -> str:
    return str(value) if isinstance(value, bool) else _JSON_NAMES.get(type(value), "Number")


def _short(dtype: str) -> str:
    return dtype.removeprefix("DT_").lower()
