"""The gateway, with `serve` itself as the backend."""

import json
import socket

import numpy as np
import pytest
from serving_helpers import (
    Running,
    ask,
    floats,
    png,
    probabilities,
    publish,
    rows,
    running,
    running_gateway,
)

from keras_srt.serving.http.limits import Limits
from keras_srt.serving.http.metrics import Metrics

MODEL = "/v1/models/shades"


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    with running(publish(tmp_path_factory.mktemp("models") / "shades", 1)) as server:
        server.seen = seen = []
        predict = server.models.predict

        async def noted(target, body):
            seen.append(json.loads(body))
            return await predict(target, body)

        server.models.predict = noted
        yield server


@pytest.fixture(scope="module")
def gateway(backend):
    with running_gateway(backend.url + "/") as server:
        yield server


def predict(server, document, path=MODEL):
    return ask(f"{server.url}{path}:predict", document)


def test_status_metadata_and_names_are_the_backends(backend, gateway):
    for path in (MODEL, f"{MODEL}/versions/1", f"{MODEL}/metadata", "/models"):
        code, answer, _ = ask(gateway.url + path)
        assert (code, answer) == ask(backend.url + path)[:2]
        assert code == 200


def test_images_are_decoded_here_and_reach_the_backend_as_floats(backend, gateway):
    backend.seen.clear()
    code, answer, _ = predict(gateway, rows(png(0), b"nothing", png(255)))
    assert code == 200
    assert [row["class_name"] for row in answer["predictions"]] == ["dark", "", "light"]
    np.testing.assert_allclose(
        answer["predictions"][0]["probabilities"], probabilities(0), atol=1e-6
    )
    (sent,) = backend.seen
    assert sent["signature_name"] == "image"
    assert sent["instances"] == floats(0, -1, 1)
    assert answer == predict(backend, rows(png(0), b"nothing", png(255)))[1]


@pytest.mark.parametrize(
    "document",
    [
        {"inputs": rows(png(10))["instances"][0]["image_bytes"]},
        {"inputs": {"image_bytes": [rows(png(10))["instances"][0]["image_bytes"]]}},
        {"signature_name": "image", "instances": floats(0.25, np.nan)},
        {"signature_name": "image", "inputs": floats(0.25, 7)},
        {"signature_name": "logits", "instances": floats(0.25)},
        {"signature_name": "logits", "instances": floats(np.nan)},
        {"signature_name": "image", "instances": [[1, 2]]},
        {"signature_name": "no", "instances": [1]},
        {"instances": []},
        {},
    ],
)
def test_it_answers_as_the_backend_does(backend, gateway, document):
    assert predict(gateway, document)[:2] == predict(backend, document)[:2]


def test_more_images_than_a_batch_are_sent_in_parts(backend, gateway):
    backend.seen.clear()
    levels = [0, 128, 255] * 25
    answer = predict(gateway, {"inputs": {"image_bytes": _encoded(levels)}})[1]["outputs"]
    assert answer["class_id"] == [0, 1, 2] * 25
    assert [len(sent["instances"]) for sent in backend.seen] == [32, 32, 11]


def _encoded(levels):
    return [row["image_bytes"] for row in rows(*map(png, levels))["instances"]]


def test_wrong_shapes_never_reach_the_backend(backend, gateway):
    backend.seen.clear()
    document = {"signature_name": "image", "instances": [[[1.0]]]}
    code, answer, _ = predict(gateway, document)
    assert code == 400
    assert answer["error"].startswith("Shape of tensor image [1,1,1] is not compatible")
    assert backend.seen == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/v1/models/no", "Servable not found for request: Latest(no)"),
        (f"{MODEL}/versions/7", "Servable not found for request: Specific(shades, 7)"),
    ],
)
def test_the_backends_errors_are_passed_on(gateway, path, text):
    assert predict(gateway, rows(png(0)), path)[:2] == (404, {"error": text})


def test_a_name_cannot_change_the_path_at_the_backend(gateway):
    code, answer, _ = ask(f"{gateway.url}/v1/models/a%3Fb%23c")
    assert (code, answer) == (404, {"error": "Could not find any versions of model a?b#c"})


def test_images_are_counted_here_too(gateway):
    predict(gateway, rows(png(0), b"bad"))
    assert 'keras_srt_images_total{model="shades",valid="false"}' in gateway.metrics.page().decode()


def test_a_backend_that_is_gone_is_503_and_the_gateway_lives():
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with running_gateway(url, names=["m"]) as gateway:
        for _ in range(2):
            code, answer, headers = predict(gateway, rows(png(0)))
            assert (code, answer) == (503, {"error": f"The backend {url} can't be reached"})
            assert headers["retry-after"] == "1"
        assert ask(gateway.url + MODEL)[0] == 503
        assert ask(gateway.url + "/models")[1] == {"models": ["m"]}
    with running_gateway(url) as gateway:
        assert ask(gateway.url + "/models")[1] == {"models": []}


class Strange:
    """A backend that answers what no TF Serving does."""

    async def metadata(self, target):
        return b"<html>"

    async def status(self, target):
        raise ValueError("broken")

    def close(self):
        pass


def test_a_backend_that_is_no_tf_serving_is_502():
    strange = Running(Strange(), Limits(), Metrics())
    try:
        with running_gateway(strange.url) as gateway:
            answer = predict(gateway, rows(png(0)))[:2]
            assert answer == (502, {"error": "The metadata of the backend can't be read"})
            assert ask(gateway.url + MODEL)[0] == 500
    finally:
        strange.stop()
