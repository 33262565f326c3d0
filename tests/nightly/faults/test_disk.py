"""A full disk, a read-only one, a limit on the size of files: one line, and nothing is lost."""

import contextlib
import shutil
import subprocess

import pytest

from faults.conftest import assert_same_training, train
from faults.injected import fill_disk
from keras_srt.training.checkpoint_files import manifests

GROUP = "disk full, read-only, file-size limit"
SIGINT = 2


@pytest.fixture
def disk(tmp_path):
    """A small file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@contextlib.contextmanager
def read_only(place):
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", place], check=True)


def assert_goes_on(forks, config, run, whole, *more):
    forks(*train(config, run, *more)).assert_done()
    assert_same_training(run, whole)


def test_full_from_the_start(forks, configs, whole, disk):
    fill_disk(disk / "filler")
    forks(*train(configs["all"], disk / "run")).assert_refused(
        str(disk / "run"), "can't be written"
    )
    (disk / "filler").unlink()
    assert_goes_on(forks, configs["all"], disk / "run", whole["all"])


@pytest.mark.parametrize("interrupted", [False, True], ids=["at a checkpoint", "at Ctrl-C"])
def test_full_in_training(interrupted, forks, configs, whole, disk):
    run, filler = disk / "run", disk / "filler"
    faults = {"fill_at_step": [5, str(filler)]}
    if interrupted:
        faults["signal_at_step"] = [5, SIGINT]
    ended = forks(*train(configs["all"], run), **faults)
    ended.assert_refused(str(run), "can't be written", "--resume")
    assert [path.name for path in manifests(run / "checkpoints")] == ["state-3.json"]
    filler.unlink()
    assert_goes_on(forks, configs["all"], run, whole["all"], "--resume")


def test_read_only_from_the_start(forks, configs, whole, disk):
    with read_only(disk):
        forks(*train(configs["all"], disk / "run")).assert_refused("can't be written")
    assert_goes_on(forks, configs["all"], disk / "run", whole["all"])


def test_read_only_at_resume(forks, configs, whole, begun, disk):
    run = shutil.copytree(begun, disk / "run")
    with read_only(disk):
        ended = forks(*train(configs["all"], run, "--resume"))
        ended.assert_refused(str(run), "can't be written")
    assert_goes_on(forks, configs["all"], run, whole["all"], "--resume")


def test_a_read_only_run_can_be_evaluated(forks, whole, disk):
    run = shutil.copytree(whole["all"], disk / "run")
    with read_only(disk):
        ended = forks("evaluate", "--run", run, "--limit", 4, "--attacks", "fgsm@0.1")
    ended.assert_done()
    assert "fgsm" in ended.output


@pytest.mark.parametrize("step", [0, 2, 5])
def test_no_file_may_grow(step, forks, configs, whole, tmp_path):
    run = tmp_path / "run"
    ended = forks(*train(configs["all"], run), limit_at_step=[step, 3000])
    ended.assert_refused(str(run), "can't be written")
    kept = [path.name for path in manifests(run / "checkpoints")]
    assert kept == (["state-3.json"] if step > 3 else [])
    again = ["--resume"] if (run / "config.json").is_file() else []
    assert_goes_on(forks, configs["all"], run, whole["all"], *again)
