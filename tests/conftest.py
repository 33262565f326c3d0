"""What several test files share: small images, small models, and the number of processes."""

import gc
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

import keras_srt.core.tensorflow as lazy
from keras_srt.pipeline import processor_turn

NUM_CLASSES = 3

# Searching for garbage, mostly among what is imported, took a tenth of the time.
gc.set_threshold(100_000)


def pytest_xdist_auto_num_workers(config):
    """Folders are tested in several processes: not single files, nor the nightly tests."""
    paths = [Path(argument.partition("::")[0]) for argument in config.args]
    if all(path.is_dir() and "nightly" not in path.parts for path in paths):
        return len(os.sched_getaffinity(0))
    return 0


def make_deterministic():
    """Seed the initial weights and turn TF32 off, which rounds more than the tests allow."""
    lazy.keras.utils.set_random_seed(0)
    lazy.tf.config.experimental.enable_tensor_float_32_execution(False)


@pytest.fixture(autouse=True)
def deterministic(monkeypatch):
    """Initial weights are the same whichever tests run.

    TensorFlow takes seconds to import, so a test that doesn't use TensorFlow doesn't import it: in
    the test that imports it first, the import itself sets the seed.
    """
    if "tensorflow" in sys.modules:
        make_deterministic()
        return
    import_module = lazy._import

    def import_and_seed(name):
        monkeypatch.setattr(lazy, "_import", import_module)
        module = import_module(name)
        make_deterministic()
        return module

    monkeypatch.setattr(lazy, "_import", import_and_seed)


@pytest.fixture(scope="session", autouse=True)
def own_turns(tmp_path_factory):
    """Trainings of parallel test processes don't name each other."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("turns")
        patch.setattr(processor_turn, "_cache_folder", lambda: folder)
        yield


@pytest.fixture(scope="module")
def eager():
    """Functions run eagerly: tracing a training step takes longer than the few steps of a test."""
    lazy.tf.config.run_functions_eagerly(True)
    yield
    lazy.tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def untimed():
    """No training step is timed before a training, which would trace it once more."""
    from keras_srt.pipeline import cost

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "time_step", lambda *_: cost.StepTime(0.01, 16))
        yield


@pytest.fixture
def images():
    """Four 8×8 images with two channels; some values are exactly 0 and exactly 1."""
    values = np.random.default_rng(1).uniform(-0.2, 1.2, (4, 8, 8, 2))
    return np.clip(values, 0, 1).astype(np.float32)


@pytest.fixture
def photos():
    """Five 32×32 color images in [0, 1]."""
    return np.random.default_rng(3).random((5, 32, 32, 3), np.float32)


@pytest.fixture
def labels():
    """Class ids of `images`."""
    return np.int32([0, 1, 2, 1])


@pytest.fixture
def unlabeled():
    """Six more images, of the shape of `images`."""
    return np.random.default_rng(2).random((6, 8, 8, 2), np.float32)


@pytest.fixture
def make_classifier():
    """Makes a small Keras classifier with one convolution and, if wanted, BatchNorm."""
    from keras_srt.core.tensorflow import keras

    def make(batch_norm=True, activation="tanh"):
        layers = [keras.layers.Conv2D(4, 3, activation=activation)]
        layers += [keras.layers.BatchNormalization()] if batch_norm else []
        layers += [keras.layers.Flatten(), keras.layers.Dense(NUM_CLASSES)]
        return keras.Sequential([keras.Input((8, 8, 2)), *layers])

    return make


@pytest.fixture
def shared_data_dir():
    """Where the prepared TFDS datasets lie on the machine of the developers."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "tfds"
    if not folder.is_dir():
        pytest.skip(f"the prepared datasets are not on this machine ({folder})")
    return folder
