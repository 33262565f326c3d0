"""Predict responses of TF Serving's REST API, in row or column format."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def response_document(outputs: Mapping[str, np.ndarray], rows: bool) -> dict[str, Any]:
    """Convert outputs to the JSON object of a predict response.

    Args:
        outputs: Arrays by output name, batch first.
        rows: Whether to use the row format (`predictions`) or the column format (`outputs`). A
            single output has no name in the response.

    Returns:
        A JSON object.

    Example:
        >>> response_document({"score": np.float32([0.2])}, rows=True)
        {'predictions': [0.2]}
    """
    columns = {name: _plain(name, tensor) for name, tensor in outputs.items()}
    if not rows:
        return {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    return {
        "predictions": [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]
    }


def _plain(name: str, tensor: np.ndarray) -> Any:
    if tensor.dtype == object:
        return _map_nested(_bytes_to_json if name.endswith("_bytes") else _text, tensor.tolist())
    if not np.issubdtype(tensor.dtype, np.floating):
        return tensor.tolist()
    digits = 9 if tensor.dtype == np.float32 else 17
    # Rounded by formatting, so that a float32 0.2 is written as 0.2 and not 0.20000000298.
    flat = [_decimal(value, digits, tensor.dtype.type) for value in tensor.ravel().tolist()]
    return np.array(flat, np.float64).reshape(tensor.shape).tolist()


def _decimal(value: float, digits: int, kind: type) -> float:
    """Round as TF Serving does: to six digits if they are exact, else to all digits."""
    short = float(f"{value:.6g}")
    return short if kind(short) == value else float(f"{value:.{digits}g}")


def _map_nested(change: Callable[[bytes], Any], value: Any) -> Any:
    return (
        [_map_nested(change, item) for item in value] if isinstance(value, list) else change(value)
    )


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _bytes_to_json(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode("ascii")}
