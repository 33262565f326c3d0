"""A run that is interrupted between training and validating an interval."""

from resumed_runs import check_resumed_run


def test_a_run_interrupted_at_the_end_of_an_interval_is_bit_equal(tmp_path, monkeypatch):
    check_resumed_run(tmp_path, monkeypatch, 6, "rt")
