"""Predict responses in row and column format."""

import json

import numpy as np
import pytest

from keras_srt.serving.http.predict_response import response_document
from keras_srt.serving.http.protocol import to_json


def test_rows_and_columns():
    outputs = {
        "score": np.float32([0.2, 1 / 3]),
        "class_name": np.array([b"a", "ä".encode()], object),
        "valid": np.array([True, False]),
    }
    assert response_document(outputs, rows=True) == {
        "predictions": [
            {"score": 0.2, "class_name": "a", "valid": True},
            {"score": 0.333333343, "class_name": "ä", "valid": False},
        ]
    }
    assert response_document(outputs, rows=False)["outputs"]["valid"] == [True, False]
    single = {"p": np.float32([[0.5, 1e-8]])}
    assert response_document(single, rows=True) == {"predictions": [[0.5, 1e-8]]}
    assert response_document(single, rows=False) == {"outputs": [[0.5, 1e-8]]}
    raw = {"x_bytes": np.array([b"\xff"], object)}
    assert response_document(raw, rows=True) == {"predictions": [{"b64": "/w=="}]}


def test_float32_round_trip():
    values = np.random.default_rng(0).normal(size=500).astype(np.float32) ** 5
    (texts,) = json.loads(json.dumps(response_document({"p": values[None]}, rows=True)))[
        "predictions"
    ]
    np.testing.assert_array_equal(np.float32(texts), values)


def test_nan_and_infinity_are_written_as_by_tf_serving():
    document = response_document({"p": np.float32([np.nan, np.inf, -np.inf, 0.5])}, rows=True)
    assert to_json(document, allow_nan=True) == b'{"predictions": [NaN, Infinity, -Infinity, 0.5]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(document)
