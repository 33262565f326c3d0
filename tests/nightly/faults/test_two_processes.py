"""Two processes on one run folder: the second one is refused, and the first one not disturbed."""

import signal

import pytest

from faults.conftest import assert_same_training, train

GROUP = "two processes, one run folder"


@pytest.fixture
def running(forks, configs, tmp_path):
    """A training that waits at step 4, and a function that releases it."""
    begun, go = tmp_path / "begun", tmp_path / "go"
    number = forks.start(
        *train(configs["all"], tmp_path / "run"), wait_at_step=[4, str(begun), str(go)]
    )
    forks.wait_for(begun, number)
    return number, go


@pytest.mark.parametrize("more", [(), ("--resume",)], ids=["restarted", "resumed"])
def test_the_second_is_refused(more, running, forks, configs, whole, tmp_path):
    number, go = running
    ended = forks(*train(configs["all"], tmp_path / "run", *more))
    ended.assert_refused(str(tmp_path / "run"), "is training in this folder", "process ")
    go.touch()
    forks.end(number).assert_done()
    assert_same_training(tmp_path / "run", whole["all"])


def test_another_folder_is_free(running, forks, configs, whole, tmp_path):
    number, go = running
    forks(*train(configs["all"], tmp_path / "other")).assert_done()
    go.touch()
    forks.end(number).assert_done()
    for name in ("run", "other"):
        assert_same_training(tmp_path / name, whole["all"])


def test_a_killed_one_frees_the_folder(forks, configs, whole, tmp_path):
    run = tmp_path / "run"
    kill = int(signal.SIGKILL)
    assert forks(*train(configs["all"], run), signal_at_step=[4, kill]).code == -kill
    forks(*train(configs["all"], run, "--resume")).assert_done()
    assert_same_training(run, whole["all"])


def test_two_reproductions_in_one_folder(forks, tmp_path):
    begun, go = tmp_path / "begun", tmp_path / "go"
    small = {"small_reproduction": [str(tmp_path)]}
    folders = ("--runs", tmp_path / "runs", "--output", tmp_path / "output")
    command = ("reproduce", "table2", "--dataset", "digits", "--scale", "smoke", *folders)
    number = forks.start(*command, **small, wait_at_step=[4, str(begun), str(go)])
    forks.wait_for(begun, number)
    refused = forks(*command, **small)
    refused.assert_refused(str(tmp_path / "runs"), "is training in this folder", "process ")
    go.touch()
    forks.end(number).assert_done()
    again = forks(*command, **small)
    again.assert_done()
    assert "1 trained, 0 started, 0 missing" in again.output
    assert len(list((tmp_path / "output").glob("table2*.json"))) == 1


def contents(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_reader_changes_nothing(forks, configs, whole, tmp_path):
    """Also where a kill prevented the rename of the best classifier."""
    run, kill = tmp_path / "run", int(signal.SIGKILL)
    assert forks(*train(configs["all"], run), signal_at_put=[5, kill]).code == -kill
    before = contents(run)
    assert any(path.name == ".draft-best.weights.h5" for path in before)
    forks("evaluate", "--run", run, "--limit", 4, "--attacks", "fgsm@0.1").assert_done()
    assert contents(run) == before
    forks(*train(configs["all"], run, "--resume")).assert_done()
    assert_same_training(run, whole["all"])
