"""The gRPC client."""

import socket

import numpy as np
import pytest
from brightness_model import CLASSES, expected, png, save_brightness_model
from grpc_server import grpc_server
from rest_server import rest_server

from keras_srt.core.errors import UserError
from keras_srt.serving.client.grpc_client import GrpcClient
from keras_srt.serving.client.predictions import RequestRefused
from keras_srt.serving.client.rest_client import RestClient

LEVELS = (0, 51, 255)
IMAGES = [png(level) for level in LEVELS]
DISTRIBUTIONS = np.array([expected(level / 255) for level in LEVELS])


@pytest.fixture
def server():
    with rest_server() as running:
        yield running


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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


def test_predictions_equal_those_of_rest(grpc_address, server):
    client = GrpcClient(grpc_address, "bright")
    assert (client.name, client.version) == ("bright", "3")
    got = client.predict([*IMAGES, b"GIF89a"])
    rest = RestClient(server.url, "bright").predict([*IMAGES, b"GIF89a"])
    np.testing.assert_allclose(got.probabilities[:3], DISTRIBUTIONS, atol=1e-6)
    np.testing.assert_allclose(got.probabilities, rest.probabilities, atol=1e-6)
    assert got.valid.tolist() == rest.valid.tolist() == [True, True, True, False]
    assert got.classes == rest.classes == CLASSES


def test_model_and_version_in_the_address(grpc_address):
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


def test_busy_server_is_retried(grpc_running):
    address, service = grpc_running
    client = GrpcClient(address, "bright")
    service.busy = 2
    assert client.predict(IMAGES).valid.all()
    assert service.busy == 0


def test_refused_request(grpc_address):
    # The magic number of a PNG and nothing behind it fails in the graph.
    with pytest.raises(RequestRefused, match="INVALID_ARGUMENT"):
        GrpcClient(grpc_address, "bright").predict([IMAGES[0], b"\x89PNG\r\n\x1a\n"])


def test_large_messages(grpc_address):
    large = png(255, (3000, 3000)) + b"\0" * (5 * 2**20)
    answer = GrpcClient(grpc_address, "bright").predict([large])
    assert answer.probabilities[0].argmax() == 2


def test_unreachable_server():
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(UserError, match="Connection refused") as caught:
        GrpcClient(address, "bright")
    assert address in str(caught.value)
    assert "\n" not in str(caught.value)
