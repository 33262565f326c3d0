"""Nested JSON lists -> tensors, with TF Serving's error texts.

After TF Serving's `json_tensor.cc`. Lists are checked and flattened level by level at the
speed of C; only when something is wrong does slow code look for what, and where.
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
# Whole numbers up to here are exact in float32.
_EXACT = 2**24 - 1
_SHOWN = 200
# NumPy 1 has no more dimensions, and no classifier takes as many.
_MAX_RANK = 32

# What JSON may become a type; image classifiers take no others.
_JSON_TYPES: dict[str, set[type]] = {"DT_FLOAT": {int, float}, "DT_STRING": {str, dict}}
_JSON_NAMES = {type(None): "Null", dict: "Object", list: "Array", str: "String"}


def tensor_from_json(value: Any, dtype: str) -> np.ndarray:
    """A tensor of nested lists.

    Args:
        value: parsed JSON; every list of a level has the same length.
        dtype: TensorFlow's name of the type; `{"b64": …}` stands for bytes in DT_STRING.

    Returns:
        The array.

    Raises:
        RequestError: 400, another type or ragged lists.

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
    """Takes lists apart, level by level, as long as all of a level are lists of one length."""
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
    """Numbers that float32 can't hold are refused, as TF Serving does; NaN passes."""
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
    """The shape along the first elements, which the others are measured by."""
    shape: list[int] = []
    while isinstance(value, list) and len(shape) < _MAX_RANK:
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _raise_first_fault(value: Any, level: int, shape: list[int], dtype: str) -> None:
    """Walks the lists in order and raises at the first thing that doesn't fit."""
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
    """Whether it is an object of named inputs, and not one that stands for bytes.

    Args:
        value: parsed JSON.

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
    """A value for an error text: the beginning of its JSON, however long it is.

    Args:
        value: parsed JSON.

    Example:
        >>> len(shown(list(range(1000))))
        70
    """
    text = json.dumps(_pruned(value), ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _pruned(value: Any, depth: int = 6) -> Any:
    """A copy with few items and short strings, made without walking what isn't shown."""
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
