"""States of a training: which one is gone back to, and what never reaches one."""

import numpy as np
import pytest
from helpers import tiny
from tiny_runs import train_in

from keras_srt.config import loader as configs
from keras_srt.core.errors import NotFinite, UserError
from keras_srt.core.tensorflow import keras, tf
from keras_srt.neighborhoods import LInf
from keras_srt.objectives import SRT
from keras_srt.pipeline import cost, rollback
from keras_srt.pipeline.configs import COMPONENTS
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.training import callbacks, checkpoint_files
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
    model.compile(keras.optimizers.SGD(0.1))
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
    assert line.endswith("state-3 is damaged; going on from state-2")
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


# Rolling back.


@pytest.fixture
def untimed(monkeypatch):
    monkeypatch.setattr(cost, "time_step", lambda *_: cost.StepTime(0.01, 16))


def configured(**changes):
    policy = {"name": "go_back", "factor": 0.5, "retries": 2}
    return configs.parse(tiny(training__on_nan=policy, **changes), COMPONENTS)


def spoil(monkeypatch, step, rates):
    """The loss of a step is NaN as long as the learning rate is one of these."""

    class Watching(callbacks.StopAtNaN):
        def on_train_batch_end(self, batch, logs=None):
            now = int(self.model.optimizer.iterations.numpy())
            if now == step and float(self.model.optimizer.learning_rate.numpy()) in rates:
                logs = {**logs, "loss": float("nan")}
            super().on_train_batch_end(batch, logs)

    monkeypatch.setattr(callbacks, "StopAtNaN", Watching)


@pytest.mark.parametrize("step", [1, 5])
def test_it_rolls_back_to_the_last_finite_state_with_a_lower_rate(
    step, untimed, monkeypatch, tmp_path, capsys
):
    config = configured(training__learning_rate=0.5)
    spoil(monkeypatch, step, {0.5})
    run = train_in(tmp_path / "run", config)
    rows = run.read_history()
    assert [int(row["step"]) for row in rows] == [3, 6]
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates == ([0.25, 0.25] if step == 1 else [0.5, 0.25])
    printed = capsys.readouterr().out
    assert f"resuming at step {0 if step == 1 else 3}" in printed
    assert "rolling back to the last finite state with a learning rate of 0.25 (1 of 2)" in printed
    (reason,) = rollback.read_rollbacks(run)
    assert f"loss is nan after step {step}" in reason


def test_it_rolls_back_no_more_often_than_allowed(untimed, monkeypatch, tmp_path):
    spoil(monkeypatch, 5, {0.5, 0.25, 0.125})
    with pytest.raises(NotFinite, match=r"loss is nan after step 5.*rolled back 2 times"):
        train_in(tmp_path / "run", configured(training__learning_rate=0.5))
    run = RunFolder(tmp_path / "run")
    assert len(rollback.read_rollbacks(run)) == 2
    # A resumed run keeps to the lower rate.
    monkeypatch.undo()
    monkeypatch.setattr(cost, "time_step", lambda *_: cost.StepTime(0.01, 16))
    train_in(run.path, configured(training__learning_rate=0.5), resume=True)
    assert float(run.read_history()[-1]["learning_rate"]) == 0.125


def test_a_damaged_record_of_rollbacks_is_named(tmp_path):
    run = RunFolder(tmp_path)
    run.checkpoints.mkdir()
    run.rollbacks.write_text("[3")
    with pytest.raises(UserError, match=r"retreats\.json: can't be read"):
        rollback.read_rollbacks(run)
