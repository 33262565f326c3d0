"""Strategies, shares of a batch, draws by row, and training on replicas against one device."""

import json
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
import yaml
from helpers import ROOT, clean_environment, python, tiny, write_config

from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.tensorflow import keras
from keras_srt.data import BatchSizes, Replicas
from keras_srt.models.batch_norm import BatchNormalization
from keras_srt.neighborhoods import L0, L2, Color, Composite, LInf, Noise, Spatial, draws
from keras_srt.objectives import Batch
from keras_srt.pipeline import watchdog
from keras_srt.pipeline.distribution import Distribution, Task, read_task, split_rows
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.training import replicas

SEED = (3, 5)
PIXEL, TURN = LInf(epsilon=0.3, num_steps=1), Spatial(num_samples=2)


def replica_results(count, *cases):
    """What `replica_training.py` prints, case by case."""
    run = subprocess.run(
        [sys.executable, ROOT / "tests" / "replica_training.py", str(count), *cases],
        capture_output=True,
        text=True,
        env=clean_environment(TF_CPP_MIN_LOG_LEVEL="3"),
    )
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def assert_replicas_train_as_one(count, *cases):
    """Weights, losses and accuracies of several replicas are those of one device."""
    results = replica_results(count, *cases)
    assert [result["case"] for result in results] == list(cases)
    for result in results:
        assert result["replicas"] == count
        # On CPUs they keep some memory of each exchange for good.
        assert result["collective"] == []
        assert result["moved"] > 1e-3  # or equal weights would say nothing
        assert result["difference"] < 1e-5, result
        for name, (one, several) in result["history"].items():
            assert several == pytest.approx(one, abs=1e-5), name
        one, several = result["means"]
        assert several == pytest.approx(one, rel=1e-5)  # so that either goes on with the other's


def test_two_replicas_train_as_one_device():
    """Ten steps, 5 labeled and 8 unlabeled images each, pixel and spatial stages, BatchNorm."""
    assert_replicas_train_as_one(2, "composite")


@pytest.mark.slow
def test_two_replicas_train_as_one_device_by_each_search_alone():
    assert_replicas_train_as_one(2, "pixel", "spatial")


@pytest.mark.slow
def test_four_replicas_train_as_one_device():
    """Also with clipping and averaged weights, a teacher's answers, and several search kinds."""
    assert_replicas_train_as_one(4, "composite", "sparse", "color", "standard")


@pytest.mark.parametrize(
    "neighborhood",
    [
        PIXEL,
        LInf(epsilon=0.3, num_steps=1, random_start=0.1),
        L2(epsilon=1, num_steps=1),
        L0(epsilon=3, num_steps=1),
        TURN,
        Color(search="random", num_samples=2),
        Color(num_steps=1),
        Noise(epsilon=0.1),
        Noise(sigma=0.1, num_samples=2),
        Composite(stages=(PIXEL, TURN)),
        Composite(stages=(TURN, PIXEL), mode="joint"),
    ],
    ids=lambda neighborhood: neighborhood.name,
)
def test_rows_of_a_batch_find_what_the_whole_batch_does(neighborhood):
    """Two replicas' rows of 3 labeled and 4 unlabeled images, put together."""
    images = tf.constant(np.random.default_rng(0).random((7, 6, 6, 3), np.float32))
    weights = tf.constant(np.random.default_rng(1).normal(size=(6, 6, 3)).astype(np.float32))

    def loss(moved):
        return tf.reduce_sum(weights * moved, [1, 2, 3])

    whole = neighborhood.maximize(images, loss, tf.constant(SEED)).images.numpy()
    assert np.any(whole != images)
    for labeled, unlabeled in (((0, 1), (0, 2)), ((1, 2), (2, 2))):
        parts = [draws.Rows(*labeled, 3), draws.Rows(*unlabeled, 4)]
        seed = draws.for_rows(tf.constant(SEED), parts)
        own = seed.rows.numpy()
        found = neighborhood.maximize(tf.gather(images, own), loss, seed).images
        np.testing.assert_array_equal(found, whole[own])


def test_the_seed_of_one_device_is_the_seed_itself(images, labels):
    batch = Batch(images, labels)
    seed = tf.constant(SEED)
    assert batch.seed_for(seed, "labeled") is seed
    rows = {"labeled": draws.Rows(1, 2, 4), "unlabeled": draws.Rows(3, 1, 5)}
    shared = batch._replace(rows=rows).seed_for(seed, "labeled", "unlabeled", "unlabeled")
    assert shared.rows.numpy().tolist() == [1, 2, 4 + 3, 4 + 5 + 3]
    assert int(shared.total) == 4 + 5 + 5


def test_folded_and_split_seeds_keep_their_rows():
    seed = draws.for_rows(tf.constant(SEED), [draws.Rows(2, 2, 6)])
    for made in (draws.fold(seed, 7), *draws.split(seed, 2)):
        assert made.rows.numpy().tolist() == [2, 3]
        whole = draws.normal([6, 2], made.key)
        np.testing.assert_array_equal(draws.normal([2, 2], made), whole[2:4])


def test_one_replica_exchanges_nothing():
    assert replicas.count() == 1
    assert replicas.held_rows({"labeled": tf.constant(3)}) is None
    losses = [tf.constant([1.0, 2.0]), tf.constant([3.0])]
    assert [float(share) for share in replicas.average(losses)] == [1.5, 3.0]


def test_batch_norm_of_one_replica_is_that_of_keras():
    """Outputs, moving mean and moving variance, which has Bessel's correction."""
    values = np.random.default_rng(0).normal(3, 2, (4, 5, 5, 2)).astype(np.float32)
    layers = [BatchNormalization(), keras.layers.BatchNormalization()]
    for _ in range(3):
        own, expected = (layer(values, training=True) for layer in layers)
        np.testing.assert_allclose(own, expected, atol=1e-5)
    for own, expected in zip(*(layer.get_weights() for layer in layers), strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-7)
    layers[0].set_weights(layers[1].get_weights())
    inference = [layer(values, training=False) for layer in layers]
    np.testing.assert_array_equal(*inference)


@pytest.mark.parametrize("total", [1, 2, 3])
def test_split_rows_is_a_partition(total):
    whole = tf.data.Dataset.from_tensor_slices((np.arange(10), -np.arange(10))).batch(4)
    parts = [split_rows(whole, Replicas(total, first, 1)) for first in range(total)]
    for batch, *own in zip(whole, *parts, strict=True):
        for index in (0, 1):
            together = np.concatenate([part[index] for part in own])
            np.testing.assert_array_equal(together, batch[index])
    both = list(split_rows(whole, Replicas(2, 0, 2)).as_numpy_iterator())
    assert [x.tolist() for x, _ in both] == [[0, 1], [2, 3], [4, 5], [6, 7], [8], [9]]


class _Strategy:
    """Stands in for a strategy of that many replicas."""

    def __init__(self, replicas):
        self.num_replicas_in_sync = replicas


@pytest.mark.parametrize(
    ("count", "images", "expected"), [(1, 1001, 250), (2, 1000, 250), (2, 1001, 249), (4, 9, 250)]
)
def test_the_last_validation_batch_has_an_image_for_each_replica(count, images, expected):
    size = Distribution(_Strategy(count)).batch_size(images, most=250)
    assert size == expected
    assert images % size == 0 or images % size >= count


def test_batches_too_small_for_the_replicas_are_refused():
    Distribution(_Strategy(8)).check(BatchSizes(1, 8), 8)
    with pytest.raises(InvalidSettings) as error:
        Distribution(_Strategy(8)).check(BatchSizes(20, 7), 5)
    assert [problem.split(":")[0] for problem in error.value.problems] == [
        "training.batch_size",
        "data.validation",
    ]


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


def test_mirrored_wants_several_devices():
    if len(tf.config.list_physical_devices("GPU")) > 1:
        pytest.skip("this machine has several GPUs")
    with pytest.raises(UserError, match=r"got one device.*--strategy one_device"):
        Distribution.make("mirrored")


@pytest.fixture
def cluster():
    """This process' place, as the chief or the other, where nothing is summed up."""

    class Alone(Distribution):
        def check_agreement(self, *what):
            pass

    return [Alone(None, Task(index, 2)) for index in range(2)]


def test_others_than_the_chief_work_in_a_copy(cluster, tmp_path, capsys):
    run = RunFolder(tmp_path / "run")
    run.checkpoints.mkdir(parents=True)
    run.history.write_text("step\n3\n")
    run.tensorboard.mkdir()
    before = sorted(run.path.rglob("*"))
    with cluster[1].workplace(run, "again") as own:
        assert own.read_history() == [{"step": "3"}]
        assert not own.tensorboard.exists()
        own.report.write_text("{}")
        print("not to be seen")
    assert not own.path.exists()
    assert sorted(run.path.rglob("*")) == before
    with cluster[0].workplace(run, "again") as own:
        assert own is run
        print("the chief")
    assert capsys.readouterr().out == "the chief\n"


def test_a_lost_worker_is_one_line_and_other_errors_stay_as_they_are(cluster, tmp_path):
    run, lost = RunFolder(tmp_path), tf.errors.UnavailableError(None, None, "Socket closed\nmore")
    with (
        pytest.raises(UserError, match="worker 1 of 2: another worker is gone") as error,
        cluster[1].workplace(run, "python train.py --resume"),
    ):
        raise lost
    assert str(error.value).endswith("python train.py --resume")
    with (
        pytest.raises(tf.errors.UnavailableError),
        Distribution.make("one_device").workplace(run, ""),
    ):
        raise lost
    with pytest.raises(tf.errors.ResourceExhaustedError), cluster[1].workplace(run, ""):
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
        "from keras_srt.pipeline.distribution import Distribution, Task\n"
        "from keras_srt.pipeline.run_folder import RunFolder\n"
        "from keras_srt.pipeline import watchdog\n"
        "watchdog.watching.__wrapped__.__defaults__ = (0.05, 0.2)\n"
        "task = Task(1, 2, 'b:1', ('127.0.0.1:9',))\n"
        "with Distribution(None, task).workplace(RunFolder(pathlib.Path('none')), 'again'):\n"
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
