"""Workers: their tasks, their folders, and the loss of one of them."""

import json
import os
import socket
import subprocess
import time

import pytest
import tensorflow as tf
import yaml
from helpers import ROOT, python, tiny, write_config

from keras_srt.core.errors import UserError
from keras_srt.pipeline import watchdog
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.pipeline.workers import Task, read_task, watched, writable_folder

CLUSTER = {"worker": ["a:1", "b:2"]}


def tf_config(cluster=CLUSTER, job="worker", index=1):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": job, "index": index}})}


def test_the_place_in_the_cluster():
    assert read_task("one_device", {}) == read_task("mirrored", tf_config()) == Task(0, 1)
    assert read_task("multi_worker", tf_config()) == Task(1, 2, "b:2", ("a:1",))
    assert read_task("multi_worker", tf_config(index=0)).is_chief
    named = {"chief": ["c:0"], **CLUSTER}
    assert read_task("multi_worker", tf_config(named)) == Task(2, 3, "b:2", ("c:0", "a:1"))
    assert read_task("multi_worker", tf_config(named, "chief", 0)) == Task(
        0, 3, "c:0", ("a:1", "b:2")
    )


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "TF_CONFIG: got none"),
        ({"TF_CONFIG": "{"}, "can't be read"),
        ({"TF_CONFIG": "[]"}, "can't be read"),
        ({"TF_CONFIG": '{"cluster": {"worker": ["a:1"]}}'}, "can't be read"),
        (tf_config(index=2), "got the task worker 2"),
        (tf_config(job="ps", index=0), "got the task ps 0"),
    ],
)
def test_a_cluster_that_is_none_is_refused(environment, message):
    with pytest.raises(UserError, match=r"^TF_CONFIG: ") as error:
        read_task("multi_worker", environment)
    assert message in str(error.value)
    assert "allowed: " in str(error.value)


CHIEF, OTHER = Task(0, 2), Task(1, 2)


def test_others_than_the_chief_work_in_a_copy(tmp_path, capsys):
    run = RunFolder(tmp_path / "run")
    run.checkpoints.mkdir(parents=True)
    run.history.write_text("step\n3\n")
    run.tensorboard.mkdir()
    before = sorted(run.path.rglob("*"))
    with writable_folder(OTHER, run) as own:
        assert own.read_history() == [{"step": "3"}]
        assert not own.tensorboard.exists()
        own.report.write_text("{}")
        print("not to be seen")
    assert not own.path.exists()
    assert sorted(run.path.rglob("*")) == before
    with writable_folder(CHIEF, run) as own:
        assert own is run
        print("the chief")
    assert capsys.readouterr().out == "the chief\n"


def test_a_lost_worker_is_one_line_and_other_errors_stay_as_they_are(tmp_path):
    run, lost = RunFolder(tmp_path), tf.errors.UnavailableError(None, None, "Socket closed\nmore")
    with (
        pytest.raises(UserError, match="worker 1 of 2: another worker is gone") as error,
        watched(OTHER, run),
    ):
        raise lost
    assert "again with --resume" in str(error.value)
    with (
        pytest.raises(tf.errors.UnavailableError),
        watched(Task(), run),
    ):
        raise lost
    with pytest.raises(tf.errors.ResourceExhaustedError), watched(OTHER, run):
        raise tf.errors.ResourceExhaustedError(None, None, "out of memory")


def test_the_watchdog_calls_once_where_nobody_listens_any_more():
    gone = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with watchdog.watching([address], gone.append, interval=0.02, patience=0.1):
            time.sleep(0.3)
            assert gone == []
            server.close()
            end = time.monotonic() + 10
            while not gone and time.monotonic() < end:
                time.sleep(0.02)
            time.sleep(0.2)
            assert gone == [address]


def test_the_watchdog_is_silent_once_its_work_is_done():
    gone = []
    with watchdog.watching(["127.0.0.1:9"], gone.append, interval=0.05, patience=0.1):
        pass
    time.sleep(0.4)
    assert gone == []


def test_a_worker_that_waits_for_ever_is_ended(tmp_path):
    """Exit code 2, one line, and no scratch folder left."""
    code = (
        "import pathlib, time\n"
        "from keras_srt.pipeline.workers import Task, watched, writable_folder\n"
        "from keras_srt.pipeline.run_folder import RunFolder\n"
        "from keras_srt.pipeline import watchdog\n"
        "watchdog.watching.__wrapped__.__defaults__ = (0.05, 0.2)\n"
        "task = Task(1, 2, 'b:1', ('127.0.0.1:9',))\n"
        "with writable_folder(task, RunFolder(pathlib.Path('none'))) as own, watched(task, own):\n"
        "    time.sleep(100)\n"
    )
    run = python("-c", code, TMPDIR=str(tmp_path), TF_CPP_MIN_LOG_LEVEL="3")
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert "another worker is gone (127.0.0.1:9)" in run.stderr
    assert not list(tmp_path.glob("keras-srt-worker-*"))


def test_the_strategy_is_no_part_of_a_run(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.claim(json.dumps(tiny()), resume=False)
    run.claim(json.dumps(tiny(training__strategy="mirrored")), resume=True)
    with pytest.raises(UserError, match=r"training\.momentum"):
        run.claim(json.dumps(tiny(training__momentum=0.5)), resume=True)


def test_without_a_cluster_train_says_how_to_give_one(tmp_path, capsys, monkeypatch):
    from keras_srt.cli import main as cli

    monkeypatch.delenv("TF_CONFIG", raising=False)
    config = write_config(tmp_path, tiny(training__strategy="multi_worker"))
    run = tmp_path / "run"
    assert cli.main(["train", "--config", str(config), "--run-dir", str(run)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: TF_CONFIG: got none")
    assert not run.exists()


@pytest.fixture(scope="module")
def kubernetes():
    """The objects of the training by their kinds."""
    text = (ROOT / "deploy" / "kubernetes-training.yaml").read_text()
    objects = list(yaml.safe_load_all(text))
    return {item["kind"]: item for item in objects}


def test_each_pod_of_kubernetes_gets_its_place(kubernetes, tmp_path):
    """The shell of the pod, run with `keras-srt` replaced by a program that shows what it gets."""
    job, service = kubernetes["Job"]["spec"], kubernetes["Service"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    fake = tmp_path / "keras-srt"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$TF_CONFIG" "$@"\n')
    fake.chmod(0o755)
    environment = {item["name"]: item["value"] for item in container["env"]}
    environment["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    places = []
    for index in range(job["completions"]):
        text = subprocess.run(
            [*container["command"], *container["args"]],
            env={**environment, "JOB_COMPLETION_INDEX": str(index)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        config, *arguments = text.splitlines()
        places.append(read_task("multi_worker", {"TF_CONFIG": config}))
        assert arguments[0] == "train"
        assert {"--resume", "multi_worker"} <= set(arguments)
    assert [place.index for place in places] == list(range(job["completions"]))
    assert {place.count for place in places} == {job["parallelism"]} == {job["completions"]}
    # Kubernetes names the pods of an indexed job NAME-INDEX, and finds them by NAME-INDEX.SERVICE.
    name, port = kubernetes["Job"]["metadata"]["name"], service["spec"]["ports"][0]["port"]
    domain = service["metadata"]["name"]
    assert pod["subdomain"] == domain
    expected = [f"{name}-{place.index}.{domain}:{port}" for place in places]
    assert [place.address for place in places] == expected


def test_the_parts_of_kubernetes_find_each_other(kubernetes):
    service, job = kubernetes["Service"]["spec"], kubernetes["Job"]["spec"]
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"] is True
    assert service["selector"].items() <= job["template"]["metadata"]["labels"].items()
    assert job["completionMode"] == "Indexed"
    claim = kubernetes["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    volumes = job["template"]["spec"]["volumes"]
    claims = [volume["persistentVolumeClaim"] for volume in volumes if volume["name"] != "tmp"]
    assert claims == [{"claimName": claim["metadata"]["name"]}]
