"""Paths of TF Serving's REST protocol."""

import pytest

from keras_srt.serving.http.protocol import RequestError, Target, parse_path


def test_paths():
    assert parse_path("GET", "/v1/models/m") == ("status", Target("m"))
    assert parse_path("GET", "/V1/models/m/versions/3/metadata") == ("metadata", Target("m", 3))
    assert parse_path("POST", "/v1/models/m/versions/03:predict") == ("predict", Target("m", 3))
    assert parse_path("POST", "/v1/models/m/versions/0:predict") == ("predict", Target("m"))
    stable = Target("m", label="stable")
    assert parse_path("GET", "/v1/models/m/labels/stable/metadata") == ("metadata", stable)
    assert stable.path() == "/v1/models/m/labels/stable"
    zeros = f"/v1/models/m/versions/{'0' * 5000}3"
    assert parse_path("GET", zeros) == ("status", Target("m", 3))
    for method, path, text in (
        ("POST", "/v1/models/m", "Malformed request: POST /v1/models/m"),
        ("GET", "/v1/models/m:predict", "Malformed request: GET /v1/models/m:predict"),
        ("DELETE", "/v1/models/m", "Malformed request: DELETE /v1/models/m"),
        ("GET", "/v1/models", "Missing model name in request."),
        ("GET", "/v1/models/m/versions/٣", "Malformed request"),
        ("GET", f"/v1/models/m/versions/{2**63}", f"Failed to convert version: {2**63}"),
        ("GET", "/v1/models/m/versions/" + "9" * 5000, "Failed to convert version: 999"),
        ("POST", "/v1/models/m:classify", "allowed here: :predict"),
    ):
        with pytest.raises(RequestError) as caught:
            parse_path(method, path)
        assert (caught.value.code, text in caught.value.text) == (400, True)
