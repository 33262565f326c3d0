"""Results of trials: files and tables."""

from keras_srt.tuning.trial_results import Outcome, markdown_table, read_outcome, terminal_table


def test_tables_include_the_reasons_of_failures():
    made = [
        Outcome("0", {"model.width": 2}, 9, reason="NaN"),
        Outcome("1", {"model.width": 3}, 9, robust=0.5, clean=0.75, seconds=3),
    ]
    lines = terminal_table(made).splitlines()
    assert [line.split()[0] for line in lines] == ["trial", "1", "0", "trial"]
    assert lines[-1] == "trial 0 failed: NaN"
    assert "| 1 | 3 | 9 | 50.0 | 75.0 | 3 |" in markdown_table(made)


def test_a_damaged_outcome_is_ignored(tmp_path):
    (tmp_path / "trial.json").write_text('{"trial": ')
    assert read_outcome(tmp_path) is None
    Outcome("0", {"a": [1, None]}, 3, 0.5, 0.75, 1.0).save(tmp_path)
    assert read_outcome(tmp_path) == Outcome("0", {"a": [1, None]}, 3, 0.5, 0.75, 1.0)
