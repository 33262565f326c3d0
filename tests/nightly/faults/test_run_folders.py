"""A damaged file of a run folder is made up for, or named in one line; never used as it is."""

import shutil

import pytest

from faults.conftest import assert_same_training, train

GROUP = "damaged run folders"

NEWEST = ("state-6.json", "state-6.index", "state-6.data-00000-of-00001")
MADE_UP_FOR = ("history.csv", "environment.json", *(f"checkpoints/{name}" for name in NEWEST))
OLDER = ("checkpoints/state-3.json", "checkpoints/state-3.data-00000-of-00001")
NAMED = ("config.json", "split.json", "checkpoints/best.weights.h5", "checkpoints/best.json")
OTHER = b"\x00\xffnot of this run\n"


def flip(path):
    content = bytearray(path.read_bytes())
    # In the middle, or it might be the end of a line; the lowest bit changes digits and letters.
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def exchange(path):
    path.write_bytes(OTHER)


DAMAGES = {
    "flipped": flip,
    "truncated": truncate,
    "missing": lambda path: path.unlink(),
    "foreign": exchange,
}


def every_damage(test):
    return pytest.mark.parametrize("damage", list(DAMAGES))(test)


def content_of(run):
    """What a refusal must leave as it is."""
    return {
        path: path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and path.name != ".lock" and "tensorboard" not in path.parts
    }


@every_damage
@pytest.mark.parametrize("name", MADE_UP_FOR)
def test_a_training_goes_on_without(name, damage, forks, configs, whole, copied):
    DAMAGES[damage](copied / name)
    ended = forks(*train(configs["all"], copied, "--resume"))
    ended.assert_done()
    fell_back = "state-6" in name
    assert f"resuming at step {3 if fell_back else 6}" in ended.output
    assert ended.output.count("is damaged; resuming from state-3") == (
        fell_back and (name, damage) != (f"checkpoints/{NEWEST[0]}", "missing")
    )
    assert_same_training(copied, whole["all"])


@every_damage
@pytest.mark.parametrize("name", OLDER[:1])
def test_a_damaged_older_state_is_not_needed(name, damage, forks, configs, whole, copied):
    DAMAGES[damage](copied / name)
    forks(*train(configs["all"], copied, "--resume")).assert_done()
    assert_same_training(copied, whole["all"])


@every_damage
@pytest.mark.parametrize("name", NAMED)
def test_a_file_that_nothing_stands_for_is_named(name, damage, forks, configs, whole, copied):
    if (name, damage) == ("split.json", "missing"):
        # It is drawn again, the same one.
        (copied / name).unlink()
        forks(*train(configs["all"], copied, "--resume")).assert_done()
        assert_same_training(copied, whole["all"])
        return
    kept = shutil.copytree(copied, copied.with_name("kept"))
    DAMAGES[damage](copied / name)
    before = content_of(copied)
    ended = forks(*train(configs["all"], copied, "--resume"))
    ended.assert_refused(str(copied), "best.weights.h5" if "best" in name else "")
    assert content_of(copied) == before
    # What the line advises: the file is restored.
    shutil.copy(kept / name, copied / name)
    forks(*train(configs["all"], copied, "--resume")).assert_done()
    assert_same_training(copied, whole["all"])
