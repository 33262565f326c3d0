"""The clients: TensorFlow Serving's protocols as they are on the wire, retries, clear errors."""

import base64
import socket
import time

import numpy as np
import pytest
from brightness_model import CLASSES, expected, png, save_brightness_model
from grpc_server import grpc_server
from rest_server import rest_server

from keras_srt.core.errors import UserError
from keras_srt.serving.client import rest_client as module
from keras_srt.serving.client.rest_client import GrpcClient, Refused, RestClient

LEVELS = (0, 51, 255)
IMAGES = [png(level) for level in LEVELS]
DISTRIBUTIONS = np.array([expected(level / 255) for level in LEVELS])


@pytest.fixture
def server():
    with rest_server() as running:
        yield running


@pytest.fixture
def quick_retries(monkeypatch):
    monkeypatch.setattr(module, "_BUSY_RETRIES", 2)
    monkeypatch.setattr(module, "_LONGEST_WAIT", 0.05)


@pytest.fixture(scope="module")
def savedmodel(tmp_path_factory):
    return save_brightness_model(tmp_path_factory.mktemp("models") / "bright" / "3")


@pytest.fixture(scope="module")
def grpc_running(savedmodel):
    floats = save_brightness_model(savedmodel.parents[1] / "floats" / "1", ("image",))
    with grpc_server({"bright": savedmodel, "floats": floats}) as (address, service):
        yield address, service


@pytest.fixture
def grpc_address(grpc_running):
    return grpc_running[0]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_batch_is_answered_in_order(server):
    client = RestClient(server.url, "bright")
    answer = client.predict(IMAGES)
    np.testing.assert_allclose(answer.probabilities, DISTRIBUTIONS, atol=1e-6)
    assert answer.probabilities.dtype == np.float32
    assert answer.valid.tolist() == [True, True, True]
    assert answer.classes == CLASSES
    assert (client.name, client.version) == ("bright", "3")


def test_the_request_is_what_tensorflow_serving_takes(server):
    RestClient(server.url, "bright").predict([b"\x00\xffabc"])
    encoded = base64.b64encode(b"\x00\xffabc").decode()
    assert server.bodies == [
        {
            "signature_name": "serving_default",
            "instances": [{"image_bytes": {"b64": encoded}}],
        }
    ]


def test_an_unreadable_image_is_invalid_alone(server):
    answer = RestClient(server.url, "bright").predict([b"GIF89a", IMAGES[0]])
    assert answer.valid.tolist() == [False, True]
    assert answer.probabilities[0].tolist() == [0, 0, 0]


def test_the_connection_is_kept(server):
    client = RestClient(server.url, "bright")
    for _ in range(5):
        client.predict(IMAGES)
    assert (server.connections, len(server.bodies)) == (1, 5)


@pytest.mark.parametrize(
    ("end", "name"),
    [("", "bright"), ("/", None), ("/v1/models/bright", None), ("/v1/models/bright:predict", None)],
)
def test_addresses(server, end, name):
    for url in (server.url + end, server.url.removeprefix("http://") + end):
        assert RestClient(url, name).name == "bright"


def test_a_version_in_the_address_is_asked_for(server):
    server.reply = lambda method, path, body: (404, {"error": f"asked {path}"})
    with pytest.raises(UserError, match="asked /v1/models/bright/versions/7/metadata"):
        RestClient(f"{server.url}/v1/models/bright/versions/7")


@pytest.mark.parametrize(
    "address",
    [
        "ftp://host:1",
        "http://",
        "http://host:99999999",
        "http://host:x",
        "http://host/path",
        "http://host/v1/models/",
        "http://host/v1/models/a/b",
        "http://host/v1/models/a?b=c",
    ],
)
@pytest.mark.parametrize("kind", [RestClient, GrpcClient])
def test_other_addresses_are_refused(address, kind):
    with pytest.raises(UserError, match="allowed: http://host:8501 or") as caught:
        kind(address, "a")
    assert address in str(caught.value)


def test_the_model_has_to_be_clear(server):
    with pytest.raises(UserError, match="--name other: the address names the model bright"):
        RestClient(f"{server.url}/v1/models/bright", "other")
    server.models = ["a", "b"]
    with pytest.raises(UserError, match="has the models a, b; give --name"):
        RestClient(server.url)
    server.models = None
    with pytest.raises(UserError, match="doesn't say which models it has; give --name"):
        RestClient(server.url)


def test_another_model_of_the_server_is_refused_before_any_image(server):
    server.signatures = {"serving_default": {"inputs": {"images": {}}}}
    with pytest.raises(UserError, match="'serving_default' takes images; allowed: image_bytes"):
        RestClient(server.url, "bright")


def test_a_busy_server_is_asked_again(server, quick_retries):
    client = RestClient(server.url, "bright")
    server.busy = 2
    # A server's wish to wait for an hour is not granted.
    server.headers = {"Retry-After": 3600}
    start = time.monotonic()
    assert client.predict(IMAGES).valid.all()
    assert time.monotonic() - start < 2
    assert server.busy == 0


def test_a_server_that_stays_busy_is_given_up(server, quick_retries):
    client = RestClient(server.url, "bright")
    server.busy = 100
    with pytest.raises(UserError, match=r"HTTP 503 \(busy\)") as caught:
        client.predict(IMAGES)
    assert not isinstance(caught.value, Refused)
    assert server.busy == 100 - 3


def test_a_lost_connection_is_opened_again(server):
    client = RestClient(server.url, "bright")
    server.drop = 1
    assert client.predict(IMAGES).valid.all()
    assert server.drop == 0


def test_what_the_server_refuses_is_told_apart_from_its_absence(server):
    client = RestClient(server.url, "bright")
    server.refuses = IMAGES[1]
    with pytest.raises(Refused, match=r"HTTP 400 \(corrupt image data\)"):
        client.predict(IMAGES)
    server.reply = lambda *_: (404, {"error": "Servable not found"})
    with pytest.raises(UserError, match="Servable not found") as caught:
        client.predict(IMAGES)
    assert not isinstance(caught.value, Refused)
    server.shutdown()
    server.server_close()
    client.close()
    with pytest.raises(UserError, match="can't be reached") as caught:
        client.predict(IMAGES)
    assert not isinstance(caught.value, Refused)


@pytest.mark.parametrize("kind", [RestClient, GrpcClient])
def test_nobody_there(kind):
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(UserError) as caught:
        kind(address, "bright")
    text = str(caught.value)
    assert address in text
    assert "Connection refused" in text
    assert "\n" not in text


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
def test_strange_answers_are_refused(server, answer):
    client = RestClient(server.url, "bright")
    server.answer = answer
    with pytest.raises(UserError, match="probabilities, valid and classes"):
        client.predict(IMAGES[:1])


def test_something_else_than_tensorflow_serving(server):
    server.reply = lambda *_: (200, b"<html>hello</html>")
    with pytest.raises(UserError, match="something else than JSON"):
        RestClient(server.url, "bright")
    server.reply = lambda *_: (200, {"hello": 1})
    with pytest.raises(UserError, match="doesn't answer as TF Serving does"):
        RestClient(server.url, "bright")


def test_grpc_answers_as_rest_does(grpc_address, server):
    client = GrpcClient(grpc_address, "bright")
    assert (client.name, client.version) == ("bright", "3")
    got = client.predict([*IMAGES, b"GIF89a"])
    rest = RestClient(server.url, "bright").predict([*IMAGES, b"GIF89a"])
    np.testing.assert_allclose(got.probabilities[:3], DISTRIBUTIONS, atol=1e-6)
    np.testing.assert_allclose(got.probabilities, rest.probabilities, atol=1e-6)
    assert got.valid.tolist() == rest.valid.tolist() == [True, True, True, False]
    assert got.classes == rest.classes == CLASSES


def test_grpc_addresses(grpc_address):
    for address in (f"http://{grpc_address}", f"{grpc_address}/v1/models/bright/versions/3"):
        assert GrpcClient(address, "bright").version == "3"
    with pytest.raises(UserError, match="give --name NAME"):
        GrpcClient(grpc_address)
    with pytest.raises(UserError, match=r"Servable not found for request: Latest\(nobody\)"):
        GrpcClient(grpc_address, "nobody")
    with pytest.raises(UserError, match=r"Specific\(bright, 4\)"):
        GrpcClient(f"{grpc_address}/v1/models/bright/versions/4")
    with pytest.raises(UserError, match="takes nothing; allowed: image_bytes"):
        GrpcClient(grpc_address, "floats")


def test_grpc_asks_a_busy_server_again(grpc_running):
    address, service = grpc_running
    client = GrpcClient(address, "bright")
    service.busy = 2
    assert client.predict(IMAGES).valid.all()
    assert service.busy == 0


def test_grpc_tells_refusals_apart(grpc_address):
    # The magic number of a PNG and nothing behind it fails in the graph.
    with pytest.raises(Refused, match="INVALID_ARGUMENT"):
        GrpcClient(grpc_address, "bright").predict([IMAGES[0], b"\x89PNG\r\n\x1a\n"])


def test_grpc_messages_may_be_large(grpc_address):
    large = png(255, (3000, 3000)) + b"\0" * (5 * 2**20)
    answer = GrpcClient(grpc_address, "bright").predict([large])
    assert answer.probabilities[0].argmax() == 2
