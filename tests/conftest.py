"""Fixtures that several test files share: small images, small models, a finished run."""

import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
from helpers import write_config

import keras_srt.core.tensorflow as lazy

NUM_CLASSES = 3


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


class Run(NamedTuple):
    """A config file and the folder of the run that it made."""

    config: Path
    folder: Path


@pytest.fixture(scope="session")
def counted_run(tmp_path_factory):
    """The one tiny run of the session, and how often it planned, read its dataset and built."""
    from tiny_runs import counted_calls

    from keras_srt.cli import main as cli

    folder = tmp_path_factory.mktemp("finished")
    run = Run(write_config(folder), folder / "run")
    with counted_calls() as calls:
        assert cli.main(["train", "--config", str(run.config), "--run-dir", str(run.folder)]) == 0
    return run, calls


@pytest.fixture(scope="session")
def finished_run(counted_run):
    """The one tiny run of the session, trained, evaluated and exported: read it, don't change it.

    Its config exports into `config.parent / "exported"`.
    """
    return counted_run[0]


@pytest.fixture
def run_copy(finished_run, tmp_path):
    """The finished run with a copy of its folder, for a test that changes it."""
    folder = shutil.copytree(finished_run.folder, tmp_path / "run")
    return Run(finished_run.config, folder)


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
