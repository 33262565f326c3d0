"""A training whose loss is NaN continues from the last finite state."""

import pytest
from nan_runs import configured, spoil
from tiny_runs import train_in

from keras_srt.core.errors import UserError
from keras_srt.pipeline import rollback
from keras_srt.pipeline.run_folder import RunFolder


def test_it_rolls_back_to_the_last_finite_state_with_a_lower_rate(
    eager, untimed, monkeypatch, tmp_path, capsys
):
    config = configured(training__learning_rate=0.5)
    spoil(monkeypatch, 5, {0.5})
    run = train_in(tmp_path / "run", config)
    rows = run.read_history()
    assert [int(row["step"]) for row in rows] == [3, 6]
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates == [0.5, 0.25]
    printed = capsys.readouterr().out
    assert "resuming at step 3" in printed
    assert "rolling back to the last finite state with a learning rate of 0.25 (1 of 2)" in printed
    (reason,) = rollback.read_rollbacks(run)
    assert "loss is nan after step 5" in reason


def test_a_damaged_record_of_rollbacks_is_named(tmp_path):
    run = RunFolder(tmp_path)
    run.checkpoints.mkdir()
    run.rollbacks.write_text("[3")
    with pytest.raises(UserError, match=r"retreats\.json: can't be read"):
        rollback.read_rollbacks(run)
