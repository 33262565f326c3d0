"""`keras-srt serve`: TF Serving's protocol, versions, batches, bounds, and the process itself."""

import asyncio
import json
import shutil
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from serving_helpers import (
    NAMES,
    SHARPNESS,
    Process,
    Running,
    ask,
    b64,
    floats,
    png,
    probabilities,
    publish,
    rows,
    running,
    wait_until,
)

from keras_srt.cli import main as cli
from keras_srt.serving.engine.batching import Batcher
from keras_srt.serving.engine.model_folder import ModelFolder, find_versions
from keras_srt.serving.http.limits import Budget, Limits
from keras_srt.serving.http.metrics import Metrics
from keras_srt.serving.http.predict_request import parse_json, read_request
from keras_srt.serving.http.predict_response import answer_document
from keras_srt.serving.http.protocol import RequestError, Target, parse_path
from keras_srt.serving.http.signatures import Signatures

MODEL = "/v1/models/shades"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(publish(tmp_path_factory.mktemp("models") / "shades", 1)) as started:
        yield started


def predict(server, document, path=MODEL, **more):
    return ask(f"{server.url}{path}:predict", document, **more)


# --- the protocol, without a server -----------------------------------------------------------


def signatures(**inputs):
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
def test_bytes_come_in_rows_and_columns_with_and_without_a_name(document):
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
def test_faults_are_told_in_tf_servings_words(document, text):
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
    ],
    ids=lambda value: repr(value[:12]),
)
def test_what_is_no_json_object(body, text):
    with pytest.raises(RequestError) as caught:
        parse_json(body, Limits())
    assert (caught.value.code, text in caught.value.text) == (400, True), caught.value.text


def test_an_error_shows_only_the_beginning_of_a_long_value():
    with pytest.raises(RequestError) as caught:
        read({"instances": "x" * 100_000})
    assert len(caught.value.text) < 500


def test_too_many_values_are_refused_before_they_are_parsed():
    limits = Limits(max_body=32, max_images=1)  # 2 values, 4 objects
    assert parse_json(b'{"a": [1, 2]}', limits) == {"a": [1, 2]}
    for body in (b'{"a": [1, 2, 3]}', b'{"a": {"a": {"a": {"a": {}}}}}'):
        with pytest.raises(RequestError) as caught:
            parse_json(body, limits)
        assert caught.value.code == 413


def test_answers_in_rows_and_columns():
    outputs = {
        "score": np.float32([0.2, 1 / 3]),
        "class_name": np.array([b"a", "ä".encode()], object),
        "valid": np.array([True, False]),
    }
    assert answer_document(outputs, rows=True) == {
        "predictions": [
            {"score": 0.2, "class_name": "a", "valid": True},
            {"score": 0.333333343, "class_name": "ä", "valid": False},
        ]
    }
    assert answer_document(outputs, rows=False)["outputs"]["valid"] == [True, False]
    single = {"p": np.float32([[0.5, 1e-8]])}
    assert answer_document(single, rows=True) == {"predictions": [[0.5, 1e-8]]}
    assert answer_document(single, rows=False) == {"outputs": [[0.5, 1e-8]]}
    raw = {"x_bytes": np.array([b"\xff"], object)}
    assert answer_document(raw, rows=True) == {"predictions": [{"b64": "/w=="}]}


def test_every_float32_survives_its_text():
    values = np.random.default_rng(0).normal(size=500).astype(np.float32) ** 5
    (texts,) = json.loads(json.dumps(answer_document({"p": values[None]}, rows=True)))[
        "predictions"
    ]
    np.testing.assert_array_equal(np.float32(texts), values)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_is_never_json(value):
    with pytest.raises(RequestError, match="p has NaN or infinite values") as caught:
        answer_document({"p": np.float32([value])}, rows=True)
    assert caught.value.code == 500


def test_paths():
    assert parse_path("GET", "/v1/models/m") == ("status", Target("m"))
    assert parse_path("GET", "/V1/models/m/versions/3/metadata") == ("metadata", Target("m", 3))
    assert parse_path("POST", "/v1/models/m/versions/03:predict") == ("predict", Target("m", 3))
    for method, path, text in (
        ("POST", "/v1/models/m", "Malformed request: POST /v1/models/m"),
        ("GET", "/v1/models/m:predict", "Malformed request: GET /v1/models/m:predict"),
        ("DELETE", "/v1/models/m", "Malformed request: DELETE /v1/models/m"),
        ("GET", "/v1/models", "Missing model name in request."),
        ("GET", "/v1/models/m/labels/x", "Unrecognized servable version label: x"),
        ("GET", f"/v1/models/m/versions/{2**63}", f"Failed to convert version: {2**63}"),
        ("GET", "/v1/models/m/versions/" + "9" * 5000, "Failed to convert version: 999"),
        ("POST", "/v1/models/m:classify", "allowed here: :predict"),
    ):
        with pytest.raises(RequestError) as caught:
            parse_path(method, path)
        assert (caught.value.code, text in caught.value.text) == (400, True)


# --- a server ---------------------------------------------------------------------------------


def test_status_and_metadata_are_tf_servings(server):
    code, answer, headers = ask(server.url + MODEL)
    assert code == 200
    assert headers["content-type"] == "application/json"
    assert answer == {
        "model_version_status": [
            {
                "version": "1",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }
    assert ask(f"{server.url}{MODEL}/versions/1")[1] == answer
    code, answer, _ = ask(f"{server.url}{MODEL}/metadata")
    assert code == 200
    assert answer["model_spec"] == {"name": "shades", "signature_name": "", "version": "1"}
    image = answer["metadata"]["signature_def"]["signature_def"]["image"]
    assert image["method_name"] == "tensorflow/serving/predict"
    assert image["inputs"]["image"]["dtype"] == "DT_FLOAT"
    assert image["inputs"]["image"]["tensor_shape"] == {
        "dim": [{"size": str(size), "name": ""} for size in (-1, 8, 8, 1)],
        "unknown_rank": False,
    }


def test_encoded_images_are_decoded_by_pillow_and_spoil_only_themselves(server):
    whole = png(255)
    broken = whole[:40] + bytes(4) + whole[44:]  # a valid header over corrupt pixels
    code, answer, _ = predict(server, rows(png(0), broken, whole, b"GIF89a", png(255, (90, 3))))
    assert code == 200
    found = answer["predictions"]
    assert [row["class_name"] for row in found] == ["dark", "", "light", "", "light"]
    assert [row["valid"] for row in found] == [True, False, True, False, True]
    assert found[1] == found[3]
    assert found[1] == {
        "probabilities": [0, 0, 0],
        "class_id": -1,
        "class_name": "",
        "score": 0,
        "valid": False,
        "classes": list(NAMES),
    }
    np.testing.assert_allclose(found[0]["probabilities"], probabilities(0), atol=1e-6)
    assert found[0]["score"] == max(found[0]["probabilities"])


def test_floats_go_to_the_image_signature_and_nan_spoils_only_itself(server):
    levels = floats(0.5, np.nan, 1.0, 1.5)
    code, answer, _ = predict(server, {"signature_name": "image", "inputs": {"image": levels}})
    assert code == 200
    assert answer["outputs"]["class_name"] == ["gray", "", "light", ""]
    np.testing.assert_allclose(answer["outputs"]["probabilities"][0], probabilities(0.5), atol=1e-6)


def test_logits_have_one_output_without_a_name_and_refuse_nan(server):
    answer = predict(server, {"signature_name": "logits", "instances": floats(0.5)})[1]
    np.testing.assert_allclose(answer["predictions"], [[0.5, 1, 1.5]], atol=1e-6)
    code, answer, _ = predict(server, {"signature_name": "logits", "instances": floats(np.nan)})
    assert (code, answer) == (400, {"error": "Input images has NaN or infinite values"})


def test_more_images_than_a_batch_come_back_in_order(server):
    levels = [0, 128, 255] * 25
    answer = predict(server, rows(*[png(level) for level in levels]))[1]
    assert [row["class_id"] for row in answer["predictions"]] == [0, 1, 2] * 25


@pytest.mark.parametrize(
    ("method", "path", "code", "text"),
    [
        ("POST", "/v1/models/no:predict", 404, "Servable not found for request: Latest(no)"),
        (
            "POST",
            f"{MODEL}/versions/7:predict",
            404,
            "Servable not found for request: Specific(shades, 7)",
        ),
        ("GET", "/v1/models/no", 404, "Could not find any versions of model no"),
        ("GET", f"{MODEL}/versions/7", 404, "Could not find version 7 of model shades"),
        (
            "GET",
            "/v1/models/no/metadata",
            404,
            "Servable not found for request: Latest(no)",
        ),
        ("PUT", MODEL, 400, f"Malformed request: PUT {MODEL}"),
        ("POST", MODEL, 400, f"Malformed request: POST {MODEL}"),
        ("GET", "/v2/models", 404, "Not Found: GET /v2/models"),
        ("POST", "/models", 405, "Method Not Allowed: POST /models"),
        ("GET", "/static/..%2Fapp.py", 404, "Not Found: GET /static/../app.py"),
        ("GET", "/static/no.js", 404, "Not Found: GET /static/no.js"),
    ],
)
def test_errors_are_json(server, method, path, code, text):
    data = b'{"instances": [1]}' if method in ("POST", "PUT") else None
    got = ask(server.url + path, method=method, data=data)
    assert got[:2] == (code, {"error": text})


def test_the_page_comes_with_careful_headers_and_no_cors(server):
    code, text, headers = ask(server.url + "/", headers={"Origin": "http://elsewhere"})
    assert code == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert text.startswith("<!DOCTYPE html>")
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["access-control-allow-origin"] is None
    assert headers["server"] is None
    assert ask(server.url + "/models")[1] == {"models": ["shades"]}


def test_metrics_count_requests_images_and_versions(server):
    def figures():
        text = ask(server.url + "/metrics")[1]
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#"]
        return {key: float(value) for key, value in lines}

    before = figures()
    predict(server, rows(png(0), b"bad"))
    predict(server, {"nothing": 1})
    after = figures()
    assert {
        key: after[key] - before.get(key, 0)
        for key in (
            'keras_srt_requests_total{code="200",kind="predict"}',
            'keras_srt_requests_total{code="400",kind="predict"}',
            'keras_srt_images_total{model="shades",valid="true"}',
            'keras_srt_images_total{model="shades",valid="false"}',
            'keras_srt_request_seconds_count{kind="predict"}',
        )
    } == dict(zip(_keys(), (1, 1, 1, 1, 2), strict=True))
    assert after['keras_srt_model_version{model="shades"}'] == 1
    assert after["keras_srt_queue_length"] == 0
    assert ask(server.url + "/monitoring/prometheus/metrics")[0] == 200


def _keys():
    return (
        'keras_srt_requests_total{code="200",kind="predict"}',
        'keras_srt_requests_total{code="400",kind="predict"}',
        'keras_srt_images_total{model="shades",valid="true"}',
        'keras_srt_images_total{model="shades",valid="false"}',
        'keras_srt_request_seconds_count{kind="predict"}',
    )


# --- versions ---------------------------------------------------------------------------------


def test_new_versions_are_taken_without_dropping_a_request(tmp_path):
    folder = publish(tmp_path / "shades", 1)
    allowed = [probabilities(0, sharpness) for sharpness in SHARPNESS.values()]
    stop, answers = threading.Event(), []

    def client(server):
        while not stop.is_set():
            code, answer, _ = predict(server, rows(png(0)))
            answers.append((code, answer["predictions"][0]["probabilities"]))

    with running(folder) as server, ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(client, server) for _ in range(4)]
        try:
            (folder / ".draft-9").mkdir()
            (folder / "tflite").mkdir()
            publish(folder, 2, of=2)
            wait_until(lambda: _versions(server).get("2") == "AVAILABLE")
            assert _versions(server) == {"2": "AVAILABLE", "1": "END"}
            assert ask(f"{server.url}{MODEL}/versions/1:predict", rows(png(0)))[0] == 404
        finally:
            stop.set()
        for finished in clients:
            finished.result()
        last = predict(server, rows(png(0)))[1]["predictions"][0]["probabilities"]
    assert {code for code, _ in answers} == {200}
    for _, got in answers:
        assert min(np.abs(got - expected).max() for expected in allowed) < 1e-6
    np.testing.assert_allclose(last, allowed[1], atol=1e-6)
    assert server.told == ["shades: version 1 is served", "shades: version 2 is served"]


def _versions(server):
    states = ask(server.url + MODEL)[1]["model_version_status"]
    return {state["version"]: state["state"] for state in states}


class Loads:
    """Stands in for loading: a version whose `saved_model.pb` says "broken" fails."""

    def __init__(self, folder, name, version):
        if (folder / "saved_model.pb").read_text() == "broken":
            raise RuntimeError("no\nmodel")
        self.version = version


def write_version(folder, version, text="fine"):
    (folder / str(version)).mkdir(parents=True, exist_ok=True)
    (folder / str(version) / "saved_model.pb").write_text(text)


def states(model):
    return {state.version: (state.state, state.error) for state in model.states()}


def test_a_broken_version_leaves_the_one_before_and_is_tried_again_when_it_changes(tmp_path):
    told = []
    model = ModelFolder(tmp_path, told.append, Loads)
    write_version(tmp_path, 1)
    model.refresh()
    write_version(tmp_path, 2, "broken")
    for _ in range(3):
        model.refresh()
    assert model.current.version == 1
    assert states(model) == {1: ("AVAILABLE", ""), 2: ("END", "no model")}
    name = tmp_path.name
    assert told == [f"{name}: version 1 is served", f"{name}: version 2 can't be loaded: no model"]
    write_version(tmp_path, 2, "mended")
    model.refresh()
    assert model.current.version == 2
    assert states(model) == {1: ("END", ""), 2: ("AVAILABLE", "")}


def test_taking_the_newest_version_away_rolls_back(tmp_path):
    model = ModelFolder(tmp_path, lambda line: None, Loads)
    for version in (2, 10, 9):
        write_version(tmp_path, version)
    model.refresh()
    assert model.current.version == 10
    shutil.rmtree(tmp_path / "10")
    model.refresh()
    assert model.current.version == 9
    for version in (2, 9):
        shutil.rmtree(tmp_path / str(version))
    model.refresh()
    assert model.current.version == 9


def test_only_numbered_folders_are_versions(tmp_path):
    for name in ("1", "12", ".draft-3", ".tmp-4", "tflite", "v5", "6.5", "-7", "٣"):
        (tmp_path / name).mkdir()
    (tmp_path / "8").write_text("a file")
    assert sorted(find_versions(tmp_path)) == [1, 12]


# --- batches ----------------------------------------------------------------------------------


class Model:
    """A batcher's `run` that can be held up, and keeps what it was called with."""

    def __init__(self, held=False):
        self.calls, self.go = [], threading.Event()
        if not held:
            self.go.set()

    def __call__(self, key, items):
        self.calls.append((key, items))
        self.go.wait(10)
        if "bad" in items:
            raise ValueError("bad")
        return {"same": np.array(items, object)}


def test_what_waits_shares_a_batch_and_keys_never_mix():
    model = Model(held=True)
    batcher = Batcher(model, max_batch=4, workers=1)
    first = batcher.submit("a", [0])
    wait_until(lambda: model.calls)
    later = [batcher.submit(*job) for job in (("a", [1]), ("b", [2]), ("a", [3, 4]), ("a", [5, 6]))]
    model.go.set()
    assert [job.result(10)["same"].tolist() for job in (first, *later)] == [
        [0],
        [1],
        [2],
        [3, 4],
        [5, 6],
    ]
    batcher.close()
    assert model.calls == [("a", [0]), ("a", [1, 3, 4]), ("b", [2]), ("a", [5, 6])]


def test_a_failing_job_fails_alone_and_a_canceled_one_is_not_run():
    model = Model(held=True)
    batcher = Batcher(model, max_batch=8, workers=1)
    first = batcher.submit("a", ["first"])
    wait_until(lambda: model.calls)
    good, bad, gone = (batcher.submit("a", [item]) for item in ("good", "bad", "gone"))
    assert gone.cancel()
    model.go.set()
    assert first.result(10)["same"].tolist() == ["first"]
    assert good.result(10)["same"].tolist() == ["good"]
    with pytest.raises(ValueError, match="bad"):
        bad.result(10)
    assert batcher.submit("a", ["after"]).result(10)["same"].tolist() == ["after"]
    batcher.close()
    assert not any("gone" in items for _, items in model.calls)


def test_a_batch_has_bounds():
    batcher = Batcher(Model(), max_batch=2, workers=1)
    for items in ([], [1, 2, 3]):
        with pytest.raises(ValueError, match="allowed: 1 to 2"):
            batcher.submit("a", items)
    batcher.close()
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit("a", [1])


# --- bounds -----------------------------------------------------------------------------------


class HeldModels:
    """Models whose answers wait until they are let go."""

    def __init__(self):
        self.waiting, self.go = 0, threading.Event()

    async def predict(self, target, body):
        self.waiting += 1
        while not self.go.is_set():
            await asyncio.sleep(0.01)
        return b"{}"

    async def names(self):
        raise RuntimeError("a fault of ours")

    def close(self):
        self.go.set()


@pytest.fixture
def held():
    limits, metrics = Limits(max_queue=2, timeout=1.0, max_body=1000), Metrics()
    server = Running(HeldModels(), limits, metrics)
    yield server
    server.stop()


def test_a_full_queue_answers_503_at_once_and_says_when_to_come_again(held):
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(predict, held, {"a": 1}) for _ in range(2)]
        wait_until(lambda: held.models.waiting == 2)
        code, answer, headers = predict(held, {"a": 1})
        held.models.go.set()
        assert [job.result()[0] for job in waiting] == [200, 200]
    assert (code, headers["retry-after"]) == (503, "1")
    assert answer == {
        "error": "The server is busy: all its places in the queue are in use; try again in a second"
    }
    assert predict(held, {"a": 1})[0] == 200


def test_an_answer_that_takes_too_long_is_504(held):
    assert predict(held, {"a": 1})[:2] == (504, {"error": "Timed out after 1 s"})


def test_an_internal_error_is_json_and_the_server_goes_on(held, caplog):
    code, answer, _ = ask(held.url + "/models")
    assert (code, answer) == (500, {"error": "Internal error; the server's log says more"})
    assert ask(held.url + "/metrics")[0] == 200
    assert "a fault of ours" in caplog.text


def connect(server, text):
    link = socket.create_connection(server.address, timeout=10)
    link.sendall(text)
    return link


def head(path=f"{MODEL}:predict", **headers):
    lines = "".join(f"{key.replace('_', '-')}: {value}\r\n" for key, value in headers.items())
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode()


def received(link):
    with link, link.makefile("rb") as file:
        return file.read()


def test_a_body_that_announces_too_much_is_refused_before_it_comes(held):
    held.models.go.set()
    with connect(held, head(Content_Length=10**9)) as link, link.makefile("rb") as file:
        answer = b"".join(file.readline() for _ in range(8)) + file.read(79)
        # Its body is read and dropped, and the server doesn't mind.
        link.sendall(b"x" * 10**6)
        assert predict(held, {"a": 1})[0] == 200
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"1,000,000,000 bytes or more; allowed: 1,000" in answer


def test_a_chunked_body_is_cut_off_where_it_becomes_too_long(held):
    chunk = b"%x\r\n%s\r\n" % (600, b" " * 600)
    with connect(held, head(Transfer_Encoding="chunked") + chunk + chunk) as link:
        answer = link.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_slow_clients_are_let_go_and_others_are_answered_meanwhile(held):
    held.models.go.set()
    started = time.monotonic()
    slow_head = connect(held, b"POST /v1/models/shades:predict HTTP/1.1\r\nHost:")
    slow_body = connect(held, head(Content_Length=100) + b"{")
    silent = connect(held, b"")
    assert predict(held, {"a": 1})[0] == 200
    assert time.monotonic() - started < 1
    assert b"HTTP/1.1 408 " in received(slow_body)
    assert received(slow_head) == b""
    assert received(silent) == b""
    assert 0.9 < time.monotonic() - started < 8


def test_a_client_that_goes_away_in_its_body_gives_back_what_it_held(held):
    held.models.go.set()
    for _ in range(4):
        connect(held, head(Content_Length=900) + b"x" * 800).close()
    wait_until(lambda: 'code="499"' in held.metrics.page().decode())
    wait_until(lambda: predict(held, None, data=b"x" * 900)[0] == 200)
    assert predict(held, None, data=b"x" * 900)[0] == 200


def test_compressed_bodies_are_refused(held):
    code, answer, _ = predict(held, {"a": 1}, headers={"Content-Encoding": "gzip"})
    assert (code, "send the body as it is" in answer["error"]) == (415, True)


def test_a_budget_refuses_what_it_has_not_and_takes_back():
    budget = Budget(3, "seats")
    with budget.hold(2):
        with pytest.raises(RequestError) as caught:
            budget.take(2)
        assert caught.value.code == 503
        budget.take(1)
    budget.give_back(1)
    assert budget.used == 0


# --- the command ------------------------------------------------------------------------------


def run_serve(capsys, *arguments):
    code = cli.main(["serve", *map(str, arguments)])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("--port", 70_000, "error: --port: got 70000; allowed: a number from 0 to 65535\n"),
        ("--max-queue", 0, "error: --max-queue: got 0; allowed: a number from 1 to 10000\n"),
        ("--timeout", 0, "error: --timeout: got 0; allowed: a number from 0.1 to 3600\n"),
        ("--max-body-mb", "nan", "--max-body-mb: got nan; allowed: a number from 0.001 to 1024\n"),
    ],
)
def test_bad_options_are_told_in_one_line(capsys, option, value, text):
    code, errors = run_serve(capsys, option, value)
    assert (code, errors.endswith(text), errors.count("\n")) == (2, True, 1)


def test_no_model_a_taken_port_and_a_strange_host_are_told_in_one_line(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, text in (
            ([], "saved_models: no model there; publish one by `keras-srt export"),
            (["--model", tmp_path / "empty"], f"{tmp_path / 'empty'}: no model there; give a"),
            (["--model", "x", "--port", port], f"127.0.0.1:{port}: can't listen there (Address"),
            (["--model", "x", "--host", "no.such.host.invalid"], "is no address of this machine"),
            (["--model", "a/m", "b/m"], "--model: two folders have the same name"),
            (["--backend", "localhost:8501"], "--backend localhost:8501: no address; allowed: as"),
        ):
            more = [] if "--port" in arguments else ["--port", 0]
            code, errors = run_serve(capsys, *arguments, *more)
            assert (code, text in errors, errors.count("\n")) == (2, True, 1), errors


def test_a_model_that_cannot_be_loaded_is_told_in_one_line(capsys, tmp_path):
    write_version(tmp_path / "m", 1, "broken")
    code, errors = run_serve(capsys, "--model", tmp_path / "m", "--port", 0)
    assert (code, errors.count("\n")) == (2, 1)
    assert f"{tmp_path / 'm'}: no version in it can be loaded (" in errors


@pytest.mark.slow
@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_lets_running_requests_finish(tmp_path, how, code):
    publish(tmp_path / "saved_models" / "shades", 1)
    server = Process(cwd=tmp_path)
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps(rows(png(255))).encode()
    with socket.create_connection((host, int(port)), timeout=30) as link:
        link.sendall(head(Content_Length=len(body), Connection="close") + body[:10])
        time.sleep(0.5)
        server.process.send_signal(how)
        time.sleep(0.5)
        with pytest.raises(OSError):  # no new ones
            socket.create_connection((host, int(port)), timeout=5)
        link.sendall(body[10:])
        answer = received(link)
    assert b'"class_name": "light"' in answer
    _, errors = server.process.communicate(timeout=30)
    assert server.process.returncode == code
    assert errors == ("interrupted\n" if how == signal.SIGINT else "")
    assert server.lines[0] == "shades: version 1 is served"
    assert server.lines[1] == f"{server.url}/ is open (Ctrl-C ends it)"
    assert Path(tmp_path / "saved_models").is_dir()
