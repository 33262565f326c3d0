"""The REST client: protocol, retries, errors."""

import base64
import time

import numpy as np
import pytest
from brightness_model import CLASSES, expected, png
from rest_server import rest_server

from keras_srt.core.errors import UserError
from keras_srt.serving.client import rest_model
from keras_srt.serving.client.predictions import RequestRefused
from keras_srt.serving.client.rest_client import RestClient

LEVELS = (0, 51, 255)
IMAGES = [png(level) for level in LEVELS]
DISTRIBUTIONS = np.array([expected(level / 255) for level in LEVELS])


@pytest.fixture
def server():
    with rest_server() as running:
        yield running


@pytest.fixture
def quick_retries(monkeypatch):
    monkeypatch.setattr(rest_model, "_BUSY_RETRIES", 2)
    monkeypatch.setattr(rest_model, "_MAX_WAIT", 0.05)


def test_batch_is_classified_in_order(server):
    client = RestClient(server.url, "bright")
    answer = client.predict(IMAGES)
    np.testing.assert_allclose(answer.probabilities, DISTRIBUTIONS, atol=1e-6)
    assert answer.probabilities.dtype == np.float32
    assert answer.valid.tolist() == [True, True, True]
    assert answer.classes == CLASSES
    assert (client.name, client.version) == ("bright", "3")


def test_request_has_the_format_of_tf_serving(server):
    RestClient(server.url, "bright").predict([b"\x00\xffabc"])
    encoded = base64.b64encode(b"\x00\xffabc").decode()
    assert server.bodies == [
        {
            "signature_name": "serving_default",
            "instances": [{"image_bytes": {"b64": encoded}}],
        }
    ]


def test_unreadable_image_does_not_affect_others(server):
    answer = RestClient(server.url, "bright").predict([b"GIF89a", IMAGES[0]])
    assert answer.valid.tolist() == [False, True]
    assert answer.probabilities[0].tolist() == [0, 0, 0]


def test_connection_is_kept(server):
    client = RestClient(server.url, "bright")
    for _ in range(5):
        client.predict(IMAGES)
    assert (server.connections, len(server.bodies)) == (1, 5)


def test_version_in_the_address_is_requested(server):
    server.reply = lambda method, path, body: (404, {"error": f"asked {path}"})
    with pytest.raises(UserError, match="asked /v1/models/bright/versions/7/metadata"):
        RestClient(f"{server.url}/v1/models/bright/versions/7")


def test_ambiguous_models_are_refused(server):
    with pytest.raises(UserError, match="--name other: the address names the model bright"):
        RestClient(f"{server.url}/v1/models/bright", "other")
    server.models = ["a", "b"]
    with pytest.raises(UserError, match="has the models a, b; give --name"):
        RestClient(server.url)
    server.models = None
    with pytest.raises(UserError, match="doesn't list its models; give --name"):
        RestClient(server.url)


def test_model_with_other_inputs_is_refused(server):
    server.signatures = {"serving_default": {"inputs": {"images": {}}}}
    with pytest.raises(UserError, match="'serving_default' takes images; allowed: image_bytes"):
        RestClient(server.url, "bright")


def test_busy_server_is_retried(server, quick_retries):
    client = RestClient(server.url, "bright")
    server.busy = 2
    # The pause is limited, whatever the server requests.
    server.headers = {"Retry-After": 3600}
    start = time.monotonic()
    assert client.predict(IMAGES).valid.all()
    assert time.monotonic() - start < 2
    assert server.busy == 0


def test_retries_are_limited(server, quick_retries):
    client = RestClient(server.url, "bright")
    server.busy = 100
    with pytest.raises(UserError, match=r"HTTP 503 \(busy\)") as caught:
        client.predict(IMAGES)
    assert not isinstance(caught.value, RequestRefused)
    assert server.busy == 100 - 3


def test_lost_connection_is_reopened(server):
    client = RestClient(server.url, "bright")
    server.drop = 1
    assert client.predict(IMAGES).valid.all()
    assert server.drop == 0


def test_refused_requests_differ_from_an_unreachable_server(server):
    client = RestClient(server.url, "bright")
    server.refuses = IMAGES[1]
    with pytest.raises(RequestRefused, match=r"HTTP 400 \(corrupt image data\)"):
        client.predict(IMAGES)
    server.reply = lambda *_: (404, {"error": "Servable not found"})
    with pytest.raises(UserError, match="Servable not found") as caught:
        client.predict(IMAGES)
    assert not isinstance(caught.value, RequestRefused)
    server.shutdown()
    server.server_close()
    client.close()
    with pytest.raises(UserError, match="can't be reached") as caught:
        client.predict(IMAGES)
    assert not isinstance(caught.value, RequestRefused)


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {"outputs": []},
        {"predictions": []},
        {"predictions": [{"probabilities": [1.0], "valid": True}]},
        {"predictions": [{"probabilities": [1.0], "valid": True, "classes": ["a", "b"]}]},
        {"predictions": [{"probabilities": ["x"], "valid": True, "classes": ["a"]}]},
        {"predictions": [{"probabilities": [1.0], "valid": True, "classes": ["a"]}] * 2},
        {"predictions": [0.1]},
    ],
)
def test_invalid_responses_are_refused(server, answer):
    client = RestClient(server.url, "bright")
    server.answer = answer
    with pytest.raises(UserError, match="probabilities, valid and classes"):
        client.predict(IMAGES[:1])


def test_other_servers_are_refused(server):
    server.reply = lambda *_: (200, b"<html>hello</html>")
    with pytest.raises(UserError, match="is not JSON"):
        RestClient(server.url, "bright")
    server.reply = lambda *_: (200, {"hello": 1})
    with pytest.raises(UserError, match="doesn't respond as TF Serving does"):
        RestClient(server.url, "bright")
