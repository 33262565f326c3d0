"""Strategies: which ones are refused, and training on replicas against one device."""

import json
import subprocess
import sys

import pytest
import tensorflow as tf
from helpers import ROOT, clean_environment

from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.data import BatchSizes
from keras_srt.training.strategy import check_replicas, make_strategy


def replica_results(count, *cases):
    """What `replica_training.py` prints, case by case."""
    run = subprocess.run(
        [sys.executable, ROOT / "tests" / "support" / "replica_training.py", str(count), *cases],
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


def test_batches_too_small_for_the_replicas_are_refused():
    check_replicas(8, BatchSizes(1, 8), 8)
    with pytest.raises(InvalidSettings) as error:
        check_replicas(8, BatchSizes(20, 7), 5)
    assert [problem.split(":")[0] for problem in error.value.problems] == [
        "training.batch_size",
        "data.validation",
    ]


def test_mirrored_wants_several_devices():
    if len(tf.config.list_physical_devices("GPU")) > 1:
        pytest.skip("this machine has several GPUs")
    with pytest.raises(UserError, match=r"got one device.*--strategy one_device"):
        make_strategy("mirrored")
