"""Predict requests: formats, and the error messages of TF Serving."""

import json

import numpy as np
import pytest
from serving_helpers import b64

from keras_srt.serving.http.limits import Limits
from keras_srt.serving.http.predict_request import _parse_fast, parse_json, read_request
from keras_srt.serving.http.protocol import RequestError
from keras_srt.serving.http.signatures import Signatures


def signatures():
    """Signatures `serving_default` (strings), `image` (floats), and `both`, of two inputs."""

    def info(dtype, *sizes):
        return {"dtype": dtype, "tensor_shape": {"dim": [{"size": str(size)} for size in sizes]}}

    texts, numbers = info("DT_STRING", -1), info("DT_FLOAT", -1, 2)
    entries = {
        "serving_default": {"image_bytes": texts},
        "image": {"image": numbers},
        "both": {"a": texts, "b": numbers},
    }
    return Signatures(
        {
            "model_spec": {"name": "m", "version": "1"},
            "metadata": {
                "signature_def": {
                    "signature_def": {
                        name: {"inputs": inputs, "outputs": {"valid": info("DT_BOOL", -1)}}
                        for name, inputs in entries.items()
                    }
                }
            },
        }
    )


def read(document):
    return read_request(parse_json(json.dumps(document).encode(), Limits()), signatures(), Limits())


@pytest.mark.parametrize(
    "document",
    [
        {"instances": [b64(b"\xff1"), b64(b"2")]},
        {"instances": [{"image_bytes": b64(b"\xff1")}, {"image_bytes": b64(b"2")}]},
        {"instances": [{"b64": "/zE"}, {"b64": "M\ng=="}]},
        {"inputs": [b64(b"\xff1"), b64(b"2")]},
        {"inputs": {"image_bytes": [b64(b"\xff1"), b64(b"2")]}},
        {"signature_name": "", "inputs": {"image_bytes": [b64(b"\xff1"), b64(b"2")]}},
    ],
)
def test_rows_and_columns_with_and_without_names(document):
    request = read(document)
    assert request.inputs["image_bytes"].tolist() == [b"\xff1", b"2"]
    assert request.rows == ("instances" in document)
    assert (request.signature.name, request.count) == ("serving_default", 2)


def test_floats_and_two_inputs():
    request = read({"signature_name": "image", "instances": [[0, 0.25], [1, 1e-3]]})
    np.testing.assert_array_equal(request.inputs["image"], np.float32([[0, 0.25], [1, 1e-3]]))
    assert request.inputs["image"].dtype == np.float32
    request = read({"signature_name": "both", "instances": [{"a": "x", "b": [1, 2]}]})
    assert request.inputs["a"].tolist() == [b"x"]
    assert request.inputs["b"].tolist() == [[1, 2]]
    same = read({"signature_name": "both", "inputs": {"a": ["x"], "b": [[1, 2]]}})
    assert (same.inputs["a"].tolist(), same.inputs["b"].tolist()) == ([b"x"], [[1, 2]])


FIRST_ROW = "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "


def images(*instances):
    return {"signature_name": "image", "instances": list(instances)}


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instances": []}, "JSON Value: {\"instances\": []} No values in 'instances' array"),
        ({"instances": 3}, "JSON Value: {\"instances\": 3} Excepting 'instances' to be an list"),
        ({"instances": [1], "inputs": [1]}, "expecting only one of 'inputs' or 'instances' keys"),
        ({"signature_name": 1, "inputs": []}, "'signature_name' key must be a string value."),
        (
            {"signature_name": "no", "inputs": []},
            'Serving signature name: "no" not found in signature def',
        ),
        ({"instances": [{"b64": "*"}]}, f"{FIRST_ROW}Unable to base64 decode"),
        ({"instances": [{"b64": "abcde"}]}, f"{FIRST_ROW}Unable to base64 decode"),
        ({"instances": [{"b64": "é"}]}, f"{FIRST_ROW}Unable to base64 decode"),
        (
            {"instances": [7]},
            f"{FIRST_ROW}JSON Value: 7 Type: Number is not of expected type: string",
        ),
        (
            {"instances": [{"image_bytes": {"b64": 1}}]},
            "Failed to process element: 0 key: image_bytes of 'instances' list. Error: "
            'INVALID_ARGUMENT: JSON Value: {"b64": 1} not formatted correctly for base64 data',
        ),
        (
            {"instances": [{"image": "x"}]},
            "Failed to process element: 0 key: image of 'instances' list. Error: "
            "INVALID_ARGUMENT: JSON object: does not have named input: image",
        ),
        ({"instances": [{}]}, "JSON object: {} keys must be equal to: image_bytes"),
        ({"instances": ["x", {"a": 1}]}, "Expecting value/list but got object at item 1 of input"),
        ({"instances": [{"image_bytes": "x"}, "x"]}, "Expecting object but got list at item 1 of"),
        ({"inputs": {"image": []}}, "Missing named input: image_bytes in 'inputs' object."),
        (
            {"inputs": "x"},
            "Shape of tensor image_bytes [] is not compatible with expected shape [?]",
        ),
        ({"inputs": []}, "Input image_bytes is empty"),
        (
            {"signature_name": "both", "instances": ["x"]},
            "instances is a plain list, but expecting list of objects as multiple input tensors",
        ),
        (
            {"signature_name": "both", "inputs": {"a": ["x"], "b": [[1, 2], [3, 4]]}},
            "Every input needs the batch, of one size, as first dimension",
        ),
        (
            images(["x", 1]),
            f'{FIRST_ROW}JSON Value: "x" Type: String is not of expected type: float',
        ),
        (
            images([1, None]),
            f"{FIRST_ROW}JSON Value: null Type: Null is not of expected type: float",
        ),
        (
            images([True, 1]),
            f"{FIRST_ROW}JSON Value: true Type: True is not of expected type: float",
        ),
        (
            images([[1], 2]),
            f"{FIRST_ROW}JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at "
            "level: 2",
        ),
        (
            images([1, [2]]),
            f"{FIRST_ROW}Encountered list at unexpected level: 1 expected < 1",
        ),
        (
            images([[1, 2], [3]]),
            f"{FIRST_ROW}Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        (
            images([1, 2], [1]),
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting "
            "tensor size: 2 but got: 1",
        ),
        (
            images([1, 2], [[1, 2]]),
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting "
            "shape [2] but got: [1,2]",
        ),
        (
            images([1, 2, 3]),
            "Shape of tensor image [1,3] is not compatible with expected shape [?,2].",
        ),
        (images(3), "Shape of tensor image [1] is not compatible with expected shape [?,2]."),
        (
            images([1, 2**24]),
            "Cannot convert JSON value: 16777216 to float without loss of precision.",
        ),
        (
            images([1, 1e39]),
            "Cannot convert JSON value: 1e+39 to float without loss of precision.",
        ),
    ],
)
def test_errors_have_the_messages_of_tf_serving(document, text):
    with pytest.raises(RequestError) as caught:
        read(document)
    assert caught.value.code == 400
    assert text in caught.value.text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"nothing", "JSON Parse error: Invalid value. at offset: 0"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b"{1}", "Missing a name for object member. at offset: 1"),
        (b"[1 2]", "Missing a comma or ] after an array element. at offset: 3"),
        (b'{"a": "', "Missing a closing quotation mark in string. at offset: 6"),
        (b'{"a": "\xff"}', "Invalid encoding in string. at offset: 7"),
        (b"{} {}", "The document root must not be followed by other values. at offset: 3"),
        (b"[" * 200_000, "JSON Parse error: Terminate parsing due to Handler error."),
        (b"[" + b"9" * 9000 + b"]", "JSON Parse error: Terminate parsing due to Handler error."),
        (b"[1]", "JSON Value: [1] Is not object"),
        # TF Serving reads the first of the two values, and Python the last.
        (b'{"instances": [1], "instances": [2]}', "An object has the same name twice"),
        (b'{"instances": [{"b64": "a", "b\\u00364": "b"}]}', "An object has the same name twice"),
    ],
    ids=lambda value: repr(value[:12]),
)
def test_bodies_that_are_not_json_objects(body, text):
    with pytest.raises(RequestError) as caught:
        parse_json(body, Limits())
    assert (caught.value.code, text in caught.value.text) == (400, True), caught.value.text


def test_error_messages_are_short():
    with pytest.raises(RequestError) as caught:
        read({"instances": "x" * 100_000})
    assert len(caught.value.text) < 500


def test_too_many_values_are_refused_before_parsing():
    limits = Limits(max_body=32, max_images=1)  # 2 values, 4 objects
    assert parse_json(b'{"a": [1, 2]}', limits) == {"a": [1, 2]}
    for body in (b'{"a": [1, 2, 3]}', b'{"a": {"a": {"a": {"a": {}}}}}'):
        with pytest.raises(RequestError) as caught:
            parse_json(body, limits)
        assert caught.value.code == 413


@pytest.mark.parametrize(
    ("body", "fast"),
    [
        (b'{"instances": [[0.5, 1], [2, 3e-2]], "signature_name": "image"}', True),
        (b'{"instances": [{"image_bytes": {"b64": "AA=="}}, {"image_bytes": {"b64": ""}}]}', True),
        (b'{"instances": [{"text": "a:b"}]}', False),
        (b'{"instances": [1, {"a": 2}]}', False),
        (b'{"instances": [NaN]}', False),
        (b'{"a": 1, "a": 2}', False),
        (b'{"a": [{"b": 1, "b": 1}]}', False),
        (b'{"a": {"b": 1}, "a": "x:y"}', False),
        (b"[1]", False),
        (b'{"a": ' + b"[" * 1000 + b"]" * 1000 + b"}", False),
    ],
    ids=lambda value: str(value)[:60],
)
def test_the_fast_parser_is_used_only_if_it_agrees_with_the_other(body, fast):
    document = _parse_fast(body)
    assert (document is not None) == fast
    if fast:
        assert repr(document) == repr(json.loads(body))
