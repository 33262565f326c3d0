"""Rolling back a training whose loss is NaN: at the first step, and too often."""

import pytest
from nan_runs import configured, spoil
from tiny_runs import train_in

from keras_srt.core.errors import NotFinite
from keras_srt.pipeline import rollback
from keras_srt.pipeline.run_folder import RunFolder


def test_it_starts_again_without_a_state(untimed, monkeypatch, tmp_path, capsys):
    config = configured(training__learning_rate=0.5)
    spoil(monkeypatch, 1, {0.5})
    run = train_in(tmp_path / "run", config)
    rows = run.read_history()
    assert [int(row["step"]) for row in rows] == [3, 6]
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates == [0.25, 0.25]
    printed = capsys.readouterr().out
    assert "resuming at step 0" in printed
    assert "rolling back to the last finite state with a learning rate of 0.25 (1 of 2)" in printed
    (reason,) = rollback.read_rollbacks(run)
    assert "loss is nan after step 1" in reason


def test_it_rolls_back_no_more_often_than_allowed(untimed, monkeypatch, tmp_path):
    spoil(monkeypatch, 5, {0.5, 0.25, 0.125})
    with pytest.raises(NotFinite, match=r"loss is nan after step 5.*rolled back 2 times"):
        train_in(tmp_path / "run", configured(training__learning_rate=0.5))
    run = RunFolder(tmp_path / "run")
    assert len(rollback.read_rollbacks(run)) == 2
    # A resumed run keeps to the lower rate.
    monkeypatch.undo()
    train_in(run.path, configured(training__learning_rate=0.5), resume=True)
    assert float(run.read_history()[-1]["learning_rate"]) == 0.125
