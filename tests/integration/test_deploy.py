"""The files in deploy/ parse and use the names, paths and ports that `export` writes."""

import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import yaml
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)
from helpers import ROOT
from tensorflow_serving.config import model_server_config_pb2

from keras_srt.exporters.graph_decoding import MAX_BATCH
from keras_srt.exporters.tf_serving_config import CONFIG_FILE, MOUNT, model_config

DEPLOY = ROOT / "deploy"
IMAGE = "tensorflow/serving:2.15.1"
METRICS = "/monitoring/prometheus/metrics"


def compose(name="docker-compose.yml"):
    return yaml.safe_load((DEPLOY / name).read_text())["services"]["tensorflow-serving"]


@pytest.fixture(scope="module")
def kubernetes():
    """The objects by their kinds."""
    objects = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    kinds = [item["kind"] for item in objects]
    assert len(set(kinds)) == len(kinds)
    return dict(zip(kinds, objects, strict=True))


@pytest.fixture(scope="module")
def pod(kubernetes):
    return kubernetes["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod):
    (only,) = pod["containers"]
    return only


def flags(arguments):
    return dict(argument.removeprefix("--").split("=", 1) for argument in arguments)


# Messages that the wheel of TF Serving's API leaves out: monitoring_config.proto and
# session_bundle_config.proto of TF Serving 2.15, as far as they are used here.
PROTOS = """
name: "left_out.proto"  package: "left_out"  syntax: "proto3"
dependency: "google/protobuf/wrappers.proto"
message_type {
  name: "MonitoringConfig"
  field { name: "prometheus_config" number: 1 type_name: ".left_out.PrometheusConfig" }
}
message_type {
  name: "PrometheusConfig"
  field { name: "enable" number: 1 type: TYPE_BOOL }
  field { name: "path" number: 2 type: TYPE_STRING }
}
message_type {
  name: "BatchingParameters"
  field { name: "max_batch_size" number: 1 type_name: ".google.protobuf.Int64Value" }
  field { name: "batch_timeout_micros" number: 2 type_name: ".google.protobuf.Int64Value" }
  field { name: "max_enqueued_batches" number: 3 type_name: ".google.protobuf.Int64Value" }
  field { name: "num_batch_threads" number: 4 type_name: ".google.protobuf.Int64Value" }
}
"""


def parsed(text, name):
    """Parses a text protobuf of one of the messages above."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = text_format.Parse(PROTOS, descriptor_pb2.FileDescriptorProto())
    for field in (field for message in file.message_type for field in message.field):
        field.label = field.LABEL_OPTIONAL
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName(f"left_out.{name}")
    return text_format.Parse(text, message_factory.GetMessageClass(descriptor)())


def test_batching_parameters():
    batching = parsed((DEPLOY / "batching.config").read_text(), "BatchingParameters")
    assert 1 < batching.max_batch_size.value <= MAX_BATCH
    assert 0 < batching.batch_timeout_micros.value <= 10_000
    assert batching.num_batch_threads.value >= 1
    with pytest.raises(text_format.ParseError):
        parsed("max_batch_size: 64", "BatchingParameters")  # it is a message of its own


def test_monitoring():
    text = (DEPLOY / "monitoring.config").read_text()
    prometheus = parsed(text, "MonitoringConfig").prometheus_config
    assert (prometheus.enable, prometheus.path) == (True, METRICS)


@pytest.mark.parametrize("where", ["compose", "batching", "kubernetes"])
def test_flags_agree_with_what_export_writes(where, container):
    arguments = {
        "compose": compose()["command"],
        "batching": compose("docker-compose.batching.yml")["command"],
        "kubernetes": container["args"],
    }[where]
    given = flags(arguments)
    assert given["model_config_file"] == f"{MOUNT}/{CONFIG_FILE}"
    assert (given["port"], given["rest_api_port"]) == ("8500", "8501")
    assert int(given["model_config_file_poll_wait_seconds"]) > 0
    for flag, file in (
        ("monitoring_config_file", "monitoring.config"),
        ("batching_parameters_file", "batching.config"),
    ):
        assert given.get(flag, f"/config/{file}") == f"/config/{file}"
    # TF Serving refuses the file where batching is off.
    assert ("batching_parameters_file" in given) == ("enable_batching" in given)
    assert ("enable_batching" in given) == (where == "batching")


def test_the_mount_is_where_model_config_says(tmp_path):
    (tmp_path / "mine" / "3").mkdir(parents=True)
    (tmp_path / "mine" / "3" / "saved_model.pb").touch()
    config = model_server_config_pb2.ModelServerConfig()
    (model,) = text_format.Parse(model_config(tmp_path), config).model_config_list.config
    (target,) = (target for _, target, _ in map(mount, compose()["volumes"]) if target == MOUNT)
    assert model.base_path == f"{target}/{model.name}" == "/models/mine"


def test_batching_changes_two_flags_alone():
    added = {"--enable_batching=true", "--batching_parameters_file=/config/batching.config"}
    override = compose("docker-compose.batching.yml")
    assert set(override) == {"command"}
    assert set(override["command"]) == {*compose()["command"], *added}


def test_the_container_can_change_nothing():
    service = compose()
    assert service["image"] == IMAGE
    assert service["user"].split(":") == ["65534", "65534"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    mounts = {target: source for source, target, mode in map(mount, service["volumes"])}
    assert mounts[MOUNT] == "${MODELS:-../saved_models}"
    for target, source in mounts.items():
        if target != MOUNT:
            assert (DEPLOY / source).is_file()
    assert all(volume.endswith(":ro") for volume in service["volumes"])
    assert [port.rpartition(":")[0] for port in service["ports"]] == [
        "127.0.0.1:8500",
        "127.0.0.1:8501",
    ]


def mount(volume):
    return volume.rsplit(":", 2)


def test_the_pod_can_change_nothing(pod, container):
    assert container["image"] == IMAGE
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65534
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {item["name"]: item for item in container["volumeMounts"]}
    assert mounts["models"] == {"name": "models", "mountPath": MOUNT, "readOnly": True}
    assert mounts["config"]["mountPath"] == "/config"
    assert {volume["name"] for volume in pod["volumes"]} == set(mounts)


def test_the_pods_are_found_probed_and_scaled(kubernetes, pod, container):
    labels = kubernetes["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        kubernetes["Deployment"]["spec"]["selector"]["matchLabels"],
        kubernetes["Service"]["spec"]["selector"],
        kubernetes["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector == labels
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": 8500, "rest": 8501}
    for port in kubernetes["Service"]["spec"]["ports"]:
        assert ports[port["targetPort"]] == port["port"]
    scaler = kubernetes["HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == kubernetes["Deployment"]["metadata"]["name"]
    assert "replicas" not in kubernetes["Deployment"]["spec"]  # they are the autoscaler's
    assert 2 <= scaler["minReplicas"] < scaler["maxReplicas"]
    assert "cpu" in container["resources"]["requests"]  # what its percentage is of
    claims = {
        v["name"]: v.get("persistentVolumeClaim", {}).get("claimName") for v in pod["volumes"]
    }
    assert claims["models"] == kubernetes["PersistentVolumeClaim"]["metadata"]["name"]
    for probe in ("startupProbe", "readinessProbe"):
        _, version, models, name, part = container[probe]["httpGet"]["path"].split("/")
        assert (version, models, part) == ("v1", "models", "metadata")
        assert (ROOT / "configs" / f"{name}.json").is_file()
        assert container[probe]["httpGet"]["port"] == "rest"


def test_kubernetes_has_the_same_files(kubernetes, pod):
    files = kubernetes["ConfigMap"]["data"]
    assert set(files) == {"monitoring.config", "batching.config"}
    for name, text in files.items():
        assert text == (DEPLOY / name).read_text()
    config = next(volume for volume in pod["volumes"] if volume["name"] == "config")
    assert config["configMap"]["name"] == kubernetes["ConfigMap"]["metadata"]["name"]
    annotations = kubernetes["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] == METRICS
    assert annotations["prometheus.io/port"] == "8501"


@pytest.mark.parametrize(("code", "healthy"), [(200, True), (404, False), (None, False)])
def test_the_health_check_is_of_the_model(code, healthy):
    requests = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Server)
    port = server.server_port
    if code is None:
        server.server_close()
    else:
        threading.Thread(target=server.handle_request, daemon=True).start()
    command, *arguments = compose()["healthcheck"]["test"]
    assert command == "CMD"
    # Compose makes one dollar sign of two.
    arguments[-1] = arguments[-1].replace("$$", "$").replace("8501", str(port))
    environment = {"MODEL": "mine", "PATH": "/usr/bin:/bin"}
    process = subprocess.run(
        arguments, env=environment, timeout=20, check=False, capture_output=True
    )
    assert (process.returncode == 0) == healthy
    assert requests == ([] if code is None else ["/v1/models/mine/metadata"])
    server.server_close()
