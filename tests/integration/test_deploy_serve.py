"""The files in deploy/serve and deploy/monitoring use options, ports and metrics that exist."""

import configparser
import json
import re
import shlex

import pytest
import yaml
from helpers import ROOT
from prometheus_client.parser import text_string_to_metric_families

from keras_srt.cli.main import make_parser
from keras_srt.serving.engine.version_policy import parse_policy
from keras_srt.serving.http.connections import Connections
from keras_srt.serving.http.limits import Admission, Limits
from keras_srt.serving.http.metrics import Metrics

SERVE = ROOT / "deploy" / "serve"
MONITORING = ROOT / "deploy" / "monitoring"
KUBERNETES = ("kubernetes.yaml", "kubernetes-canary.yaml", "kubernetes-gateway.yaml")
SAFE = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@pytest.fixture(scope="module")
def stage():
    """Instructions of the Dockerfile's stage `serve`: the last of each kind."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    (lines,) = re.findall(r"^FROM [^\n]* AS serve\n(.*?)(?=^FROM)", text, re.M | re.S)
    return dict(line.split(None, 1) for line in lines.splitlines() if line)


def options(arguments):
    """Parse `keras-srt …` as the command line does, which refuses unknown options."""
    program, *rest = arguments
    assert program.endswith("keras-srt")
    return make_parser().parse_args(rest)


def objects(name):
    return {item["kind"]: item for item in yaml.safe_load_all((SERVE / name).read_text())}


def compose(name):
    return yaml.safe_load((SERVE / name).read_text())["services"]


def test_the_image_runs_serve_without_rights(stage):
    assert int(stage["USER"].split(":")[0]) > 0
    command = json.loads(stage["ENTRYPOINT"]) + json.loads(stage["CMD"])
    chosen = options(command)
    assert (chosen.host, chosen.port, chosen.grpc_port) == ("0.0.0.0", 8501, 8500)
    assert set(stage["EXPOSE"].split()) == {"8500", "8501"}
    check = json.loads(stage["HEALTHCHECK"].partition("CMD")[2])
    assert check[:2] == ["python", "-c"]
    assert "http://127.0.0.1:8501/health" in check[2]
    compile(check[2], "check", "exec")


def test_compose(stage):
    service = compose("docker-compose.yml")["serve"]
    chosen = options(json.loads(stage["ENTRYPOINT"]) + service["command"])
    assert (chosen.grpc_port, chosen.access_log) == (8500, True)
    assert service["build"] == {"context": "../..", "target": "serve"}
    assert f"{chosen.models_dir}:ro" in service["volumes"][0]
    gateway = compose("docker-compose.gateway.yml")
    chosen = options(gateway["serve"]["entrypoint"] + gateway["serve"]["command"])
    assert chosen.backend == "http://tensorflow-serving:8501"
    assert "ports" not in gateway["tensorflow-serving"]
    for each in (service, gateway["serve"]):
        assert (each["read_only"], each["cap_drop"]) == (True, ["ALL"])
        assert all(port.startswith("127.0.0.1:") for port in each["ports"])


@pytest.mark.parametrize("name", KUBERNETES)
def test_kubernetes(name, stage):
    found = objects(name)
    template = found["Deployment"]["spec"]["template"]
    (container,) = template["spec"]["containers"]
    command = container.get("command", json.loads(stage["ENTRYPOINT"])) + container["args"]
    chosen = options(command)
    assert chosen.drain + chosen.timeout < template["spec"]["terminationGracePeriodSeconds"]
    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
    assert template["spec"]["securityContext"]["runAsUser"] > 0
    assert container["securityContext"] == SAFE
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["rest"] == chosen.port
    assert ports.get("grpc") == chosen.grpc_port
    assert container["readinessProbe"]["httpGet"] == {"path": "/health", "port": "rest"}
    assert template["metadata"]["annotations"]["prometheus.io/path"] == "/metrics"
    for port in found["Service"]["spec"]["ports"] if "Service" in found else ():
        assert ports[port["targetPort"]] == port["port"]


def test_the_canary_differs_in_its_version_only(stage):
    stable, canary = (objects(name)["Deployment"] for name in KUBERNETES[:2])
    selector = objects(KUBERNETES[0])["Service"]["spec"]["selector"]
    for deployment in (stable, canary):
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert selector.items() <= labels.items()
    (old,), (new,) = (item["spec"]["template"]["spec"]["containers"] for item in (stable, canary))
    pinned = json.loads((SERVE / "pin-version.json").read_text())[0]["value"]
    for arguments, version in ((new.pop("args"), 4), (pinned, 3)):
        chosen = options(json.loads(stage["ENTRYPOINT"]) + arguments)
        assert parse_policy(chosen.version_policy).specific == {version}
        assert arguments[:4] == old["args"]
    old.pop("args")
    assert new == old


def test_systemd_unit():
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str
    unit.read(SERVE / "keras-srt-serve.service")
    service = unit["Service"]
    chosen = options(shlex.split(service["ExecStart"]))
    assert chosen.drain + chosen.timeout < int(service["TimeoutStopSec"])
    assert service["DynamicUser"] == "yes"


@pytest.fixture(scope="module")
def metrics():
    """Names of all metrics, with the labels of ours."""
    admission = Admission(Limits(), Metrics())
    Connections(admission)
    admission.metrics.count_request("predict", 200, 0.1)
    admission.metrics.count_evicted("waiting")
    admission.metrics.count_images("m", {"valid": [True]})
    admission.metrics.watch_version("m", lambda: 1)
    families = text_string_to_metric_families(admission.metrics.page().decode())
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


def queries():
    alerts = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
    for group in alerts["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    board = json.loads((MONITORING / "grafana.json").read_text())
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


@pytest.mark.parametrize(("title", "query"), list(queries()))
def test_alerts_and_dashboard_use_metrics_that_exist(title, query, metrics):
    names = set(re.findall(r"\b(?:keras_srt|process)_\w+|\bup\b", query))
    assert names <= {*metrics, "up"}
    assert names
    scraped = {"job", "instance", "le", "version"}
    labels = scraped.union(*(metrics.get(name, set()) for name in names))
    grouped = re.findall(r"\bby \(([^)]*)\)", query)
    used = {label.strip() for group in grouped for label in group.split(",")}
    used |= set(re.findall(r"(\w+)=~?\"", query))
    assert used <= labels


def test_panels_do_not_overlap():
    panels = json.loads((MONITORING / "grafana.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
