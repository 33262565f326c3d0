"""A run continues without its terminal, its working directory and a UTF-8 locale."""

import os

import pytest
from helpers import python, tiny, write_config

from faults.conftest import assert_same_training, train
from faults.test_after_training import assert_same_end, undisturbed  # noqa: F401

GROUP = "output, working directory, locale"


def test_closed_output(forks, configs, whole, tmp_path):
    ended = forks(*train(configs["all"], tmp_path / "run"), close_streams=[])
    assert ended.code == 0
    assert_same_training(tmp_path / "run", whole["all"])


def test_a_removed_working_directory(forks, undisturbed, tmp_path):  # noqa: F811
    config = write_config(tmp_path, tiny(evaluation__deployment=8, evaluation__masking=2))
    options = ("--set", "export=../exported")
    command = train(config, "../run", *options)
    forks(*command, finish=True, work_in=[str(tmp_path / "here")]).assert_done()
    assert not (tmp_path / "here").exists()
    assert_same_end(tmp_path, undisturbed[0])


@pytest.mark.parametrize("utf8", [True, False])
def test_a_run_folder_that_is_not_ascii_in_the_c_locale(utf8, tmp_path):
    config, run = write_config(tmp_path, tiny()), tmp_path / "läufe"
    locale = {"LC_ALL": "C"} | ({} if utf8 else {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    ended = python("train.py", "--config", config, "--run-dir", run, **locale)
    assert "Traceback" not in ended.stderr
    if utf8:
        assert ended.returncode == 0, ended.stderr
        assert (run / "report.json").is_file()
        return
    assert ended.returncode == 2
    assert "PYTHONUTF8=1" in ended.stderr
    assert os.listdir(tmp_path) == ["tiny.json"]
