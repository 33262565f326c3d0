"""Training on several replicas equals training on one device."""

import json
import subprocess
import sys

import pytest
from helpers import ROOT, clean_environment, python


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
        assert several == pytest.approx(one, rel=1e-5)  # so that each can resume the other's


def test_two_replicas_train_as_one_device():
    """Ten steps, 5 labeled and 8 unlabeled images each, pixel and spatial stages, BatchNorm."""
    assert_replicas_train_as_one(2, "composite")


def test_two_replicas_train_as_one_device_by_each_search_alone():
    assert_replicas_train_as_one(2, "pixel", "spatial")


def test_two_replicas_freeze_as_one_device():
    """Half of the steps train the last layer, the others all layers."""
    assert_replicas_train_as_one(2, "frozen")


def test_four_replicas_train_as_one_device():
    """Also with clipping and averaged weights, a teacher's answers, and several search kinds."""
    assert_replicas_train_as_one(4, "composite", "sparse", "color", "standard")


ON_TWO_DEVICES = """
import numpy as np, tensorflow as tf
from keras_srt import LInf, RobustModel, SRT, keras
from keras_srt.training.optimization import LossScale, make_optimizer

cpus, half = tf.config.list_physical_devices("CPU"), tf.config.LogicalDeviceConfiguration()
tf.config.set_logical_device_configuration(cpus[0], [half, half])
generator = np.random.default_rng(0)
images, unlabeled = generator.random((2, 8, 4, 4, 1), np.float32)
data = {"labeled": (images, np.int32([0, 1, 2, 0, 1, 2, 0, 1])), "unlabeled": unlabeled}
still = LInf(epsilon=0.1, random_start=False)
mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for scale in (None, 2.0**127):  # times λ = 8 it overflows until it has been halved
    ends = []
    for strategy in (tf.distribute.get_strategy(), mirrored):
        with strategy.scope():
            keras.utils.set_random_seed(0)
            layers = [keras.layers.Flatten(), keras.layers.Dense(3)]
            classifier = keras.Sequential([keras.Input((4, 4, 1)), *layers])
            model = RobustModel(
                classifier, still, SRT(8.0), weight_decay=0.1,
                gradient_clip=0.2, ema=0.5, search_growth=2, weight_warmup=2,
            )
            if scale is not None:
                model.update.loss_scale = LossScale(scale)
            model.compile(make_optimizer("sgd", 0.1))
        before = classifier.get_weights()
        dataset = tf.data.Dataset.from_tensor_slices(data).batch(8).repeat()
        model.fit(dataset, steps_per_epoch=6, verbose=0)
        ends.append([*classifier.get_weights(), *model.inference_model.get_weights()])
        ends[-1] += [] if scale is None else [model.update.loss_scale.value.numpy()]
    for one, two in zip(*ends):
        np.testing.assert_allclose(two, one, atol=1e-6)
    assert np.any(ends[0][0] != before[0])
assert ends[0][-1] < scale
"""


def test_two_devices_update_as_one():
    """In a process of its own, as TensorFlow counts its devices once."""
    run = python("-c", ON_TWO_DEVICES)
    assert run.returncode == 0, run.stderr


ONE_STEP = """
import numpy as np, tensorflow as tf
from keras_srt import LInf, RobustModel, SRT, keras

cpus, half = tf.config.list_physical_devices("CPU"), tf.config.LogicalDeviceConfiguration()
tf.config.set_logical_device_configuration(cpus[0], [half, half])
generator = np.random.default_rng(0)
images, unlabeled = generator.random((2, 8, 4, 4, 1), np.float32)
labels = np.int32([0, 1, 2, 0, 1, 2, 0, 1])
changes = []
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        dense = keras.layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.1))
        classifier = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), dense])
        model = RobustModel(
            classifier, LInf(epsilon=0.1, random_start=False), SRT(), weight_decay=0.1
        )
        model.compile(keras.optimizers.SGD(0.1))
    before = classifier.get_weights()
    data = {"labeled": (images, labels), "unlabeled": unlabeled}
    model.fit(tf.data.Dataset.from_tensor_slices(data).batch(8), verbose=0)
    changes.append([a - b for a, b in zip(classifier.get_weights(), before)])
for one, two in zip(*changes):
    assert np.any(one != 0)
    np.testing.assert_allclose(two, one, atol=1e-6)
"""


def test_two_devices_take_the_step_of_one_with_regularizers():
    """In a process of its own, as TensorFlow counts its devices once."""
    run = python("-c", ONE_STEP)
    assert run.returncode == 0, run.stderr
