"""mypy finds the types of the package in a user's code."""

import subprocess
import sys
from pathlib import Path

import pytest
from api_example import EXAMPLE

import keras_srt as srt

USER = """
import keras_srt as srt
from keras_srt import keras
classifier = keras.Sequential([keras.layers.Dense(3)])
validation = test = keras.utils.image_dataset_from_directory("photos")
"""


def test_mypy_strict_finds_the_types_of_the_example(tmp_path):
    pytest.importorskip("mypy")
    user = tmp_path / "user.py"
    lines = EXAMPLE.split("\n", 3)[3]
    checks = "epsilon: float = srt.LInf('8/255').epsilon\nsrt.LInf(0.1, 3)\n"
    user.write_text(USER + lines + checks)
    package = str(Path(srt.__file__).parents[1])
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(user)]
    run = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env={"MYPYPATH": package}
    )
    own = [line for line in run.stdout.splitlines() if line.startswith("user.py")]
    assert len(own) == 1, run.stdout
    assert 'Too many positional arguments for "LInf"' in own[0]
