"""The gRPC server, asked by official stubs."""

import json
import socket

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from serving_helpers import NAMES, Running, floats, png, probabilities, publish, running
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from keras_srt.cli import main as cli
from keras_srt.core.errors import UserError
from keras_srt.serving.client.grpc_client import GrpcClient
from keras_srt.serving.http.limits import Limits
from keras_srt.serving.http.metrics import Metrics

LIMITS = {"max_body": 2**20, "max_images": 40}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = publish(tmp_path_factory.mktemp("models") / "shades", 3)
    with running(folder, grpc=True, **LIMITS) as started:
        yield started


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.grpc) as opened:
        yield opened


@pytest.fixture(scope="module")
def predict(channel):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def call(inputs, signature="", version=None, outputs=(), name="shades"):
        request = predict_pb2.PredictRequest(output_filter=outputs)
        request.model_spec.name, request.model_spec.signature_name = name, signature
        if version is not None:
            request.model_spec.version.value = version
        for key, value in inputs.items():
            is_array = isinstance(value, np.ndarray)
            request.inputs[key].CopyFrom(tf.make_tensor_proto(value) if is_array else value)
        return stub.Predict(request, timeout=30)

    return call


def images(*levels):
    return {"image": np.array(floats(*levels), np.float32)}


def encoded(*files):
    return {"image_bytes": np.array(files, object)}


def figure(server, name):
    lines = server.metrics.page().decode().splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith(f"keras_srt_{name} "))


def test_predict_equals_the_model(server, predict):
    before = figure(server, 'images_total{model="shades",valid="true"}')
    response = predict(images(0.0, 0.5, 1.0), "image")
    arrays = {name: tf.make_ndarray(value) for name, value in response.outputs.items()}
    expected = [probabilities(level) for level in (0, 0.5, 1)]
    np.testing.assert_allclose(arrays["probabilities"], expected, atol=1e-6)
    assert arrays["class_name"].tolist() == [name.encode() for name in NAMES]
    assert arrays["class_id"].dtype == np.int32
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("shades", 3, "image")
    assert figure(server, 'images_total{model="shades",valid="true"}') == before + 3
    assert figure(server, 'requests_total{code="OK",kind="predict"}') >= 1


def test_unreadable_images_do_not_affect_others(predict):
    response = predict(encoded(png(0), b"GIF89a", png(255)), outputs=["valid", "class_name"])
    assert sorted(response.outputs) == ["class_name", "valid"]
    assert tf.make_ndarray(response.outputs["valid"]).tolist() == [True, False, True]
    assert tf.make_ndarray(response.outputs["class_name"]).tolist() == [b"dark", b"", b"light"]


@pytest.mark.parametrize("version", [None, 0, 3])
def test_version_0_is_the_latest(predict, version):
    assert predict(images(0.5), "image", version).model_spec.version.value == 3


def filled(count):
    """A tensor whose one value stands for all."""
    tensor = tf.make_tensor_proto(np.zeros((1, 8, 8, 1), np.float32))
    tensor.ClearField("tensor_content")
    tensor.float_val.append(0.5)
    tensor.tensor_shape.dim[0].size = count
    return {"image": tensor}


BROKEN = tf.make_tensor_proto(np.zeros((1, 8, 8, 1), np.float32))
BROKEN.tensor_content = BROKEN.tensor_content[:-1]


@pytest.mark.parametrize(
    ("inputs", "more", "code", "text"),
    [
        (images(0), {"name": "no"}, "NOT_FOUND", "Servable not found for request: Latest(no)"),
        (
            images(0),
            {"version": 7},
            "NOT_FOUND",
            "Servable not found for request: Specific(shades, 7)",
        ),
        (images(0), {"name": ""}, "INVALID_ARGUMENT", "Missing ModelSpec"),
        (
            images(0),
            {"signature": "no"},
            "INVALID_ARGUMENT",
            'Serving signature name: "no" not found in signature def',
        ),
        (
            images(0),
            {},
            "INVALID_ARGUMENT",
            "The inputs are ['image']; allowed for the signature serving_default: ['image_bytes']",
        ),
        (
            {"image": np.zeros((1, 8, 8, 1), np.float64)},
            {"signature": "image"},
            "INVALID_ARGUMENT",
            "Input image has the type float64; allowed: DT_FLOAT",
        ),
        (
            {"image": np.zeros((1, 8, 9, 1), np.float32)},
            {"signature": "image"},
            "INVALID_ARGUMENT",
            "Shape of tensor image [1,8,9,1] is not compatible with expected shape [?,8,8,1].",
        ),
        (
            {"image": BROKEN},
            {"signature": "image"},
            "INVALID_ARGUMENT",
            "Input image can't be read: ",
        ),
        (
            images(0),
            {"signature": "image", "outputs": ["score", "no"]},
            "INVALID_ARGUMENT",
            "output_filter: got ['no']; allowed: [",
        ),
        (
            images(*[0] * 41),
            {"signature": "image"},
            "RESOURCE_EXHAUSTED",
            "41 images in a request; allowed: 40",
        ),
        (
            filled(10**9),
            {"signature": "image"},
            "RESOURCE_EXHAUSTED",
            "Input image has 256,000,000,000 bytes; allowed: 1,048,576",
        ),
        (
            encoded(b"x" * 2**20),
            {},
            "RESOURCE_EXHAUSTED",
            "Received message larger than max",
        ),
    ],
)
def test_errors(predict, inputs, more, code, text):
    with pytest.raises(grpc.RpcError) as caught:
        predict(inputs, **more)
    assert caught.value.code().name == code
    assert text in caught.value.details()


def test_a_repeated_value_within_the_limits_is_accepted(predict):
    response = predict(filled(2), "image")
    np.testing.assert_allclose(
        tf.make_ndarray(response.outputs["probabilities"]), [probabilities(0.5)] * 2, atol=1e-6
    )


def test_metadata_and_status(channel):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "shades"
    response = stub.GetModelMetadata(request)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert response.model_spec.version.value == 3
    image = signatures.signature_def["image"].inputs["image"]
    assert image.dtype == tf.float32.as_datatype_enum
    assert [dim.size for dim in image.tensor_shape.dim] == [-1, 8, 8, 1]
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "shades"
    (state,) = (
        model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status).model_version_status
    )
    assert (state.version, state.state, state.status.error_code) == (3, state.AVAILABLE, 0)
    request.metadata_field[:] = ["no"]
    with pytest.raises(grpc.RpcError, match="metadata_field: got"):
        stub.GetModelMetadata(request)


def test_health(channel):
    response = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert response.status == response.SERVING


def test_our_client_and_predict(server, tmp_path, capsys):
    client = GrpcClient(server.grpc, "shades")
    assert client.version == "3"
    got = client.predict([png(0), b"bad", png(255)])
    np.testing.assert_allclose(got.probabilities[2], probabilities(1), atol=1e-6)
    assert (got.classes, got.valid.tolist()) == (NAMES, [True, False, True])
    (tmp_path / "light.png").write_bytes(png(255))
    where = ["--server", server.grpc, "--grpc", "--name", "shades"]
    code = cli.main(["predict", str(tmp_path / "light.png"), *where, "--json"])
    row = json.loads(capsys.readouterr().out)
    assert (code, row["class_name"]) == (0, "light")


class FailingModels:
    """Models with a fault of ours."""

    async def metadata(self, target):
        raise RuntimeError("a fault of ours")

    def close(self):
        pass


def test_internal_errors_are_logged_and_taken_ports_are_refused(caplog):
    server = Running(FailingModels(), Limits(), Metrics(), grpc=True)
    try:
        with pytest.raises(UserError, match="INTERNAL") as caught:
            GrpcClient(server.grpc, "shades")
        assert "Internal error; see the log of the server" in str(caught.value)
        assert "a fault of ours" in caplog.text
    finally:
        server.stop()


def test_a_taken_port_is_refused(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = ["serve", "--model", "x", "--port", "0", "--grpc-port", str(port)]
        assert cli.main(arguments) == 2
    assert f"127.0.0.1:{port}: can't listen on this address" in capsys.readouterr().err
