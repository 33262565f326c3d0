"""States of a training: which one is gone back to, and what never reaches one."""

import numpy as np
import pytest

from keras_srt.core.errors import NotFinite, UserError
from keras_srt.core.tensorflow import keras, tf
from keras_srt.neighborhoods import LInf
from keras_srt.objectives import SRT
from keras_srt.training import checkpoint_files
from keras_srt.training.checkpoints import Checkpoints
from keras_srt.training.model import RobustModel


@pytest.fixture
def made(tmp_path):
    """A model of 10 weights after steps 1, 2 and 3, of which two states are kept."""
    model, checkpoints = make(tmp_path)
    for step in (1, 2, 3):
        model.optimizer.iterations.assign(step)
        model.classifier.weights[0].assign_add(tf.ones([4, 2]))
        checkpoints.on_epoch_end(step - 1, {"step": step, "val_robust_accuracy": 0.1 * step})
    return model, checkpoints, tmp_path


def make(folder):
    layers = [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    model = RobustModel(keras.Sequential(layers), LInf(epsilon=0.1, num_steps=1), SRT())
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    model.optimizer.build(model.classifier.trainable_variables)
    checkpoints = Checkpoints(folder, model)
    checkpoints.set_model(model)
    return model, checkpoints


def names(folder):
    return [path.name for path in checkpoint_files.manifests(folder)]


def test_the_last_two_states_are_kept_with_the_history(made):
    model, _, folder = made
    assert names(folder) == ["state-3.json", "state-2.json"]
    again, checkpoints = make(folder)
    assert checkpoints.restore()
    np.testing.assert_array_equal(again.classifier.weights[0], model.classifier.weights[0])
    assert [row["step"] for row in checkpoints.rows] == [1, 2, 3]
    assert checkpoints.validated == 3


@pytest.mark.parametrize("suffix", ["json", "index", "data-00000-of-00001"])
def test_a_damaged_state_gives_way_to_the_one_before(suffix, made, caplog):
    _, _, folder = made
    path = folder / f"state-3.{suffix}"
    path.write_bytes(path.read_bytes()[:-9])
    again, checkpoints = make(folder)
    assert checkpoints.restore()
    assert int(again.optimizer.iterations) == 2
    assert [row["step"] for row in checkpoints.rows] == [1, 2]
    (line,) = caplog.messages
    assert line.endswith("state-3 is damaged; resuming from state-2")
    assert names(folder) == ["state-2.json"]


def test_no_whole_state_is_one_clear_line_and_nothing_is_removed(made):
    _, _, folder = made
    for path in folder.glob("state-*.data*"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"state-3: can't be restored, it is damaged, and so is"):
        make(folder)[1].restore()
    assert names(folder) == ["state-3.json", "state-2.json"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_is_never_saved(value, made):
    model, checkpoints, folder = made
    before = checkpoint_files.best_weights(folder).read_bytes()
    model.optimizer.iterations.assign(4)
    model.classifier.weights[1].assign([0.0, value])
    with pytest.raises(NotFinite, match="a weight is not finite after step 4"):
        checkpoints.on_epoch_end(3, {"step": 4, "val_robust_accuracy": 1.0})
    with pytest.raises(NotFinite):
        checkpoints.save()
    assert names(folder) == ["state-3.json", "state-2.json"]
    assert checkpoint_files.best_weights(folder).read_bytes() == before
