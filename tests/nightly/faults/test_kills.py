"""A training that was killed at any point resumes and ends like an uninterrupted one."""

import signal

import pytest

from faults.conftest import Trained, assert_same_training, train
from keras_srt.training.checkpoint_files import manifests

GROUP = "killed, ended by a signal"
KILL = int(signal.SIGKILL)
TEACHER = -1000

BETWEEN = [
    ("all", moment, step) for step in (3, 6, 9) for moment in ("validated", "saved", "written")
]
AMID = [("all", step) for step in (1, 2, 4, 5, 7, 8)]
AMID += [("teacher", step) for step in (TEACHER + 1, TEACHER + 2, 2, 5)]


def assert_goes_on(forks, config, run, whole):
    forks(*train(config, run, "--resume")).assert_done()
    assert_same_training(run, whole)


@pytest.mark.parametrize(("name", "moment", "step"), [*BETWEEN, ("teacher", "saved", 3)])
def test_killed_between_intervals(name, moment, step, forks, configs, whole, tmp_path):
    run = tmp_path / "run"
    ended = forks(*train(configs[name], run), signal_at_interval=[step, KILL, moment])
    assert ended.code == -KILL
    assert_goes_on(forks, configs[name], run, whole[name])


@pytest.mark.parametrize(("name", "step"), AMID)
def test_killed_amid_an_interval(name, step, forks, configs, whole, tmp_path):
    run = tmp_path / "run"
    assert forks(*train(configs[name], run), signal_at_step=[step, KILL]).code == -KILL
    if step > 3:
        assert Trained(run).rows[-1]["step"] == 3 * (step // 3)
    assert_goes_on(forks, configs[name], run, whole[name])


# After environment, config and split, each interval writes best.json, the best classifier, two
# files of the state, its manifest and the history.
@pytest.mark.parametrize("count", [2, 5, 7, 8, 14])
def test_killed_during_a_save(count, forks, configs, whole, tmp_path):
    run = tmp_path / "run"
    assert forks(*train(configs["all"], run), signal_at_put=[count, KILL]).code == -KILL
    assert list(run.rglob(".draft-*"))
    assert_goes_on(forks, configs["all"], run, whole["all"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["amid", "validating"])
def test_a_signal_saves_the_state(number, moment, forks, configs, whole, tmp_path):
    run, step = tmp_path / "run", {"amid": 5, "validating": 6}[moment]
    fault = {"amid": {"signal_at_step": [step, number]}}
    fault["validating"] = {"signal_at_interval": [step, number, "validating"]}
    ended = forks(*train(configs["all"], run), **fault[moment])
    assert ended.code == 130, ended.error
    assert "Traceback" not in ended.error
    assert f"the state after step {step} is saved" in ended.error
    assert ended.error.rstrip().endswith("--resume")
    assert manifests(run / "checkpoints")[0].name == f"state-{step}.json"
    assert_goes_on(forks, configs["all"], run, whole["all"])
