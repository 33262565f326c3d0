"""The table of docs/foreign_models.md: third-party models by each command."""

import pytest
from foreign_kinds import COMMANDS, KINDS, YES, cell, make_sample

from keras_srt.core.tensorflow import keras

REFUSED = {
    "two inputs": dict.fromkeys(COMMANDS, "refused: has 2 inputs"),
    "third-party TFLite file": dict.fromkeys(
        ("export", "serve"), "refused: a TFLite file can't be exported or served"
    ),
    "Python function": dict.fromkeys(("predict", "serve"), "—: a function is no file"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_command_gives_the_results_of_the_original_or_a_reason(kind, tmp_path):
    foreign = KINDS[kind](tmp_path)
    sample = make_sample(foreign, tmp_path)
    other = "3" if keras.__version__[0] == "2" else "2"
    for command in COMMANDS:
        found = cell(command, foreign, sample, tmp_path)
        expected = REFUSED.get(kind, {}).get(command, YES)
        if kind.startswith(f"Keras {other}"):
            expected = f"refused: was saved by Keras {other}."
        assert found.startswith(expected), command
        assert len(found.splitlines()) == 1
