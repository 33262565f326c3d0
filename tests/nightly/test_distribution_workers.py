"""Processes on 127.0.0.1 that train together: a killed worker, resume, other numbers of them."""

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from helpers import ROOT, clean_environment, resident, tiny, write_config

from keras_srt.core.tensorflow import keras
from keras_srt.pipeline.run_folder import RunFolder

pytestmark = pytest.mark.skipif(
    keras.__version__.startswith("3."), reason="Keras 3 can't train on several workers"
)

# TensorFlow counts its devices once: here as many CPUs as the first argument says.
ON_CPUS = """
import sys
import tensorflow as tf
logical = [tf.config.LogicalDeviceConfiguration()] * int(sys.argv.pop(1))
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], logical)
from keras_srt.cli.main import main
sys.exit(main())
"""
STEPS, INTERVAL = 12, 3


def settings(**changes):
    """BatchNorm, random starts and transforms, and shares that aren't even."""
    both = [
        {"name": "linf", "epsilon": 0.1, "num_steps": 2},
        {"name": "spatial", "max_rotation": 20, "max_translation": 1, "num_samples": 2},
    ]
    return tiny(
        model={"name": "resnet", "filters": [4, 4], "blocks": 1},
        neighborhood={"name": "composite", "stages": both},
        training__steps=STEPS,
        training__interval=INTERVAL,
        training__labeled_per_batch=7,
        training__learning_rate=0.01,
        data__validation=31,
        **changes,
    )


def streamed(**changes):
    """Small images that are made when they are read, 768 GB of them in name."""
    dataset = {"name": "synthetic", "num_train": 10**9, "num_test": 20, "size": 16}
    return tiny(
        data__dataset={**dataset, "num_classes": 3, "shard": 10**5},
        data__shuffle_buffer=500,
        data__readers=2,
        training__labeled_per_batch=7,
        **changes,
    )


def free_ports(count):
    """Ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start(*arguments, **environment):
    """A process of Python, running."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=clean_environment(TF_CPP_MIN_LOG_LEVEL="3", **environment),
    )


def start_workers(configs, run, *options):
    """The processes of a cluster, one for each config, running."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(len(configs))]}
    command = ["-m", "keras_srt", "train", "--strategy", "multi_worker", "--run-dir", run, *options]
    places = [
        json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        for index in range(len(configs))
    ]
    return [
        start(*command, "--config", config, TF_CONFIG=place)
        for config, place in zip(configs, places, strict=True)
    ]


def start_on_cpus(count, config, run, *options):
    """One process with that many logical CPUs, running."""
    strategy = "mirrored" if count > 1 else "one_device"
    arguments = ["train", "--config", config, "--run-dir", run, "--strategy", strategy, *options]
    return start("-c", ON_CPUS, count, *arguments)


def ended(worker, timeout=400):
    """Exit code, stdout and stderr of a worker."""
    output, errors = worker.communicate(timeout=timeout)
    return worker.returncode, output, errors


def state(run, step=STEPS):
    """All numbers of a checkpoint, by name."""
    reader = tf.train.load_checkpoint(str(RunFolder(run).checkpoints / f"state-{step}"))
    names = [name for name in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name]
    return {name: reader.get_tensor(name) for name in names}


def assert_close(run, other, atol):
    """Every number of the last checkpoints is the same, up to `atol`."""
    one, two = state(run), state(other)
    assert set(one) == {name for name in two if name in one}
    for name in one:
        if one[name].dtype.kind in "fi":
            np.testing.assert_allclose(two[name], one[name], rtol=0, atol=atol, err_msg=name)


def wait_for_step(run, step, timeout=300):
    """Until the history of a run has that step."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        rows = RunFolder(run).read_history()
        if rows and int(rows[-1]["step"]) >= step:
            return
        time.sleep(0.05)
    raise TimeoutError(f"step {step} in {run}")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("config"), settings())


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """A run of two workers that nothing interrupts, and what they printed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    return run, [ended(worker) for worker in start_workers([config] * 2, run)]


@pytest.fixture(scope="module")
def alone(config, tmp_path_factory):
    """The same run on one device."""
    run = tmp_path_factory.mktemp("alone") / "run"
    code, _, errors = ended(start_on_cpus(1, config, run))
    assert code == 0, errors
    return run


def test_two_workers_train_what_one_device_does(whole, alone):
    run, ends = whole
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert_close(alone, run, atol=1e-5)
    histories = [RunFolder(folder).read_history() for folder in (run, alone)]
    for one, two in zip(*histories, strict=True):
        for name in set(one) - {"seconds"}:
            assert float(one[name]) == pytest.approx(float(two[name]), abs=1e-5), name


def test_the_chief_alone_reports_and_leaves_files(whole):
    run, ends = whole
    (_, chief, _), (_, other, errors) = ends
    assert (run / "report.json").is_file()
    assert "validation:" in chief
    assert other.splitlines()[1:] == []
    assert "worker 1 of 2" in other
    assert errors == ""


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_worker_ends_the_other_and_resume_goes_on(killed, whole, config, tmp_path):
    run = tmp_path / "run"
    workers = start_workers([config] * 2, run)
    try:
        wait_for_step(run, INTERVAL)
        workers[killed].send_signal(signal.SIGKILL)
        began = time.monotonic()
        code, _, errors = ended(workers[1 - killed], timeout=30)
    finally:
        for worker in workers:
            worker.kill()
    assert time.monotonic() - began < 30
    assert code == 2
    lines = [line for line in errors.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, errors
    assert "another worker is gone" in lines[0]
    assert "--resume" in lines[0]
    assert "Traceback" not in errors
    assert not (run / "report.json").exists()
    ends = [ended(worker) for worker in start_workers([config] * 2, run, "--resume")]
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert "resuming at step" in ends[0][1]
    assert_close(whole[0], run, atol=0)


def test_workers_of_different_configs_are_refused(config, tmp_path):
    """Each would wait for sums that the other never makes."""
    run, other = tmp_path / "run", write_config(tmp_path, settings(training__momentum=0.5))
    for worker in start_workers([config, other], run):
        code, _, errors = ended(worker)
        assert code == 2
        assert "configs or last checkpoints differ" in errors
    assert not run.exists()


@pytest.mark.parametrize(("before", "after"), [(2, 1), (2, 4)])
def test_a_run_goes_on_with_another_number_of_replicas(before, after, config, alone, tmp_path):
    run = tmp_path / "run"
    process = start_on_cpus(before, config, run)
    try:
        wait_for_step(run, INTERVAL)
    finally:
        process.kill()
    code, printed, errors = ended(start_on_cpus(after, config, run, "--resume"))
    assert code == 0, errors
    assert "resuming at step" in printed
    assert_close(alone, run, atol=1e-5)


def test_two_workers_stream_what_one_device_does(tmp_path):
    config = write_config(
        tmp_path,
        streamed(
            training__steps=STEPS, training__learning_rate=0.01, data__augmentation={"pad": 1}
        ),
    )
    ends = [ended(worker) for worker in start_workers([config] * 2, tmp_path / "two")]
    assert [code for code, _, _ in ends] == [0, 0], ends
    code, _, errors = ended(start_on_cpus(1, config, tmp_path / "one"))
    assert code == 0, errors
    assert_close(tmp_path / "one", tmp_path / "two", atol=1e-5)


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="reads /proc")
def test_memory_of_two_workers_stays_flat_on_hundreds_of_gigabytes(tmp_path):
    """Resident memory of each after 600 steps and after 1,800; TensorFlow leaks some, by itself."""
    settings = streamed(training__steps=2100, training__interval=300, training__learning_rate=1e-3)
    workers = start_workers([write_config(tmp_path, settings)] * 2, tmp_path / "run")
    try:
        wait_for_step(tmp_path / "run", 600)
        before = np.array([resident(worker.pid) for worker in workers])
        wait_for_step(tmp_path / "run", 1800)
        after = np.array([resident(worker.pid) for worker in workers])
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    # About 2 KB for each exchange between the workers: here 4 in a step, 10 MiB in all.
    assert (after - before < 15).all(), (before, after)
