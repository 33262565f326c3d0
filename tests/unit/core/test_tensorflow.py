"""The Keras of the lane, and its backend."""

import os
import subprocess
import sys

import pytest

import keras_srt.core.tensorflow as lazy
from keras_srt.core.errors import UserError
from keras_srt.core.tensorflow import keras, tf, tf_variable


def test_keras_is_that_of_tensorflow():
    newer = tuple(map(int, tf.__version__.split(".")[:2])) >= (2, 16)
    assert keras.__version__.startswith("3." if newer else "2.")
    assert keras.__name__ == "keras"


def test_the_variable_of_a_weight_shares_its_value():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    variable = tf_variable(layer.kernel)
    assert isinstance(variable, tf.Variable)
    variable.assign(tf.ones([3, 2]))
    assert layer.kernel.numpy().tolist() == [[1.0, 1.0]] * 3


def test_another_backend_that_is_loaded_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UserError, match=r"KERAS_BACKEND: got 'jax'; allowed: 'tensorflow'"):
        lazy._import("keras")


def test_another_backend_in_the_environment_is_refused_in_one_line(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "keras_srt", "train", "--config", "digits_pixel.json"],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "torch"},
        cwd=tmp_path,
        check=False,
    )
    assert ran.returncode == 2
    assert ran.stdout == ""
    (line,) = ran.stderr.splitlines()
    assert "KERAS_BACKEND: got 'torch'; allowed: 'tensorflow'" in line
