"""Imports are quick: TensorFlow loads at first use. Every public name resolves."""

import pytest
from helpers import python

# Without TensorFlow: what is slow to import, after each of these.
CHECK = """
import sys
slow = {"tensorflow", "keras", "tensorflow_datasets", "matplotlib", "sklearn", "scipy"}
print(code, sorted(slow & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("arguments", "code"), [(["train", "--help"], 0), (["train", "--config", "no-such"], 2)]
)
def test_help_and_config_errors_import_nothing_slow(arguments, code):
    script = f"""
from keras_srt import ATTACKS, NEIGHBORHOODS, OBJECTIVES
from keras_srt.cli.main import main
try:
    code = main({arguments!r})
except SystemExit as end:
    code = end.code
"""
    process = python("-c", script + CHECK)
    assert process.stdout.endswith(f"{code} []\n"), process.stdout + process.stderr
