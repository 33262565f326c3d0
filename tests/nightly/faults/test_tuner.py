"""An interrupted search continues with the same trials and has the same result."""

import json
import signal

import pytest
from helpers import tiny, write_config

GROUP = "tuner"
KILL = int(signal.SIGKILL)
TUNE = {
    "space": {"training.learning_rate": {"min": 0.01, "max": 0.1, "sampling": "log"}},
    "trials": 3,
    "tuner": "bayesian",
}


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    """A config file of a search."""
    settings = tiny(training__steps=4, training__interval=2) | {"tune": TUNE}
    return write_config(tmp_path_factory.mktemp("tune"), settings)


def tune(config, folder, *more):
    return ("tune", "--config", config, "--run-dir", folder, *more)


def found(folder):
    """What a search left, without the seconds of a clock."""
    trials = json.loads((folder / "trials.json").read_text())
    return [{k: v for k, v in trial.items() if k != "seconds"} for trial in trials]


@pytest.fixture(scope="module")
def undisturbed(search, forks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tune") / "search"
    forks(*tune(search, folder)).assert_done()
    return folder


@pytest.mark.parametrize("end", [(3, 1), (4, 2)], ids=["in a trial", "in the second trial"])
def test_killed(end, search, undisturbed, forks, tmp_path):
    folder, temporary = tmp_path / "search", tmp_path / "temporary"
    temporary.mkdir()
    place = {"temporary_in": [str(temporary)]}
    assert forks(*tune(search, folder), kill_in_trial=[*end], **place).code == -KILL
    assert not (folder / "trials.json").exists()
    assert len(list(temporary.glob("keras-srt-*"))) == 1
    forks(*tune(search, folder, "--resume"), **place).assert_done()
    assert found(folder) == found(undisturbed)
    assert not list(temporary.glob("keras-srt-*"))


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_journal(damage, search, undisturbed, forks, tmp_path):
    folder = tmp_path / "search"
    forks(*tune(search, folder)).assert_done()
    path = folder / "journal.jsonl"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    if damage == "truncated":
        del content[middle:]
    else:
        content[middle] ^= 4
    path.write_bytes(content)
    trained = {row: row.stat().st_mtime_ns for row in folder.glob("trials/*/history.csv")}
    ended = forks(*tune(search, folder, "--resume"))
    ended.assert_done()
    assert "journal.jsonl: damaged after" in ended.output
    assert found(folder) == found(undisturbed)
    assert {row: row.stat().st_mtime_ns for row in trained} == trained  # nothing twice


def test_a_failing_trial(search, undisturbed, forks, tmp_path):
    folder = tmp_path / "search"
    forks(*tune(search, folder), fail_trial=[1]).assert_done()
    outcomes = found(folder)
    assert [outcome["robust"] is None for outcome in outcomes] == [False, False, True]
    assert "loss is nan" in outcomes[-1]["reason"]
    assert not list(folder.glob(f"trials/{outcomes[-1]['trial']}/checkpoints/state-*"))


def test_trials_that_all_fail_end_the_search(search, forks, tmp_path):
    folder = tmp_path / "search"
    ended = forks(*tune(search, folder), fail_trial=[0])
    ended.assert_refused("3 trials in a row failed", "loss is nan", "narrow tune.space")
    assert len(found(folder)) == 3
