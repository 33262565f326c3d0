"""What is said during a training."""

import numpy as np
import pytest

from keras_srt.callbacks import CollapseHint

LABELS = np.int32([0, 0, 0, 1, 2])


@pytest.mark.parametrize("accuracy", [0.6, 0.2])
def test_a_model_that_answers_one_class_is_pointed_out_once(accuracy, capsys):
    hint = CollapseHint(LABELS)
    hint.on_epoch_end(0, {"val_accuracy": accuracy})
    said = capsys.readouterr().out
    assert said.startswith(f"hint: {100 * accuracy:.1f}% clean")
    assert "training.learning_rate" in said
    hint.on_epoch_end(1, {"val_accuracy": accuracy})
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("logs", [{"val_accuracy": 0.61}, {}, None])
def test_better_than_one_class_is_not(logs, capsys):
    CollapseHint(LABELS).on_epoch_end(0, logs)
    assert capsys.readouterr().out == ""
