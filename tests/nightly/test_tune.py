"""`keras-srt tune` as a process."""

from helpers import python, tiny, write_config


def test_a_search_prints_nothing_to_stderr(tmp_path):
    settings = tiny(training__steps=2, training__interval=2)
    settings["tune"] = {"space": {"model.width": [2, 3]}, "trials": 1}
    path, folder = write_config(tmp_path, settings), tmp_path / "search"
    ended = python("-m", "keras_srt", "tune", "--config", str(path), "--run-dir", str(folder))
    assert (ended.returncode, ended.stderr) == (0, "")
