"""The Keras of the lane, and its backend."""

import contextlib
import os
import subprocess
import sys

import pytest
from terminals import terminal

import keras_srt.core.tensorflow as lazy
from keras_srt.cli.output import shown_logs
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


@pytest.mark.parametrize(("is_command", "quiet"), [(True, False), (True, True), (False, False)])
def test_only_a_command_on_a_terminal_shows_that_tensorflow_is_loaded(is_command, quiet):
    with shown_logs(quiet) if is_command else contextlib.nullcontext():
        with terminal(80) as screen, lazy._loading_bar():
            assert ("loading TensorFlow: 00:00" in screen.read()) == (is_command and not quiet)
        with lazy._loading_bar() as bar:
            assert not bar._shown
