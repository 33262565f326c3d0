"""A run that is killed or fails after its training is completed by `--resume`."""

import json
import random
import signal
import time

import numpy as np
import pytest
from helpers import tiny, write_config

from faults.conftest import assert_same_training, train

GROUP = "ended between the training and the end"
KILL = int(signal.SIGKILL)
STEPS, KILLS = 6, 20
# Wall times, what the process was called with, and the size of a SavedModel, which numbers its
# functions; everything else is equal.
VARYING = {"seconds", "train_seconds", "latency_ms", "bytes", "environment"}


def without_times(value):
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in VARYING}
    return [without_times(item) for item in value] if isinstance(value, list) else value


class Finished:
    """What a finished run has: its report, and one published version."""

    def __init__(self, folder):
        self.run, self.exported = folder / "run", folder / "exported" / "tiny"
        self.report = json.loads((self.run / "report.json").read_text())

    def probabilities(self, images):
        """Of the published files, by name."""
        from keras_srt.core.model_loading import load_savedmodel
        from keras_srt.device import Classifier

        model = load_savedmodel(self.exported / "1").signatures["image"]
        found = {"savedmodel": model(image=images)["probabilities"].numpy()}
        for path in (self.exported / "tflite" / "1").glob("*.tflite"):
            found[path.name] = np.stack([Classifier(path).classify(image) for image in images])
        return found


def assert_same_end(folder, other):
    one, two = Finished(folder), Finished(other)
    assert "deployment" in one.report
    assert without_times(one.report) == without_times(two.report)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    left = [name for name in names if ".draft-" in name or name.startswith("run/evaluation")]
    assert not left
    assert {path.name for path in one.exported.iterdir()} == {"1", "tflite"}
    assert {path.name for path in (one.exported / "tflite").iterdir()} == {"1"}
    images = np.random.default_rng(0).random((8, 16, 16, 1), np.float32)
    found, wanted = one.probabilities(images), two.probabilities(images)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    for name in ("report.html", "MODEL_CARD.md", "outcomes.npz", "attacked.npz", "accuracy.png"):
        assert (folder / "run" / name).stat().st_size


def arguments(folder, *more):
    folder.mkdir(exist_ok=True)
    settings = tiny(evaluation__deployment=8, evaluation__masking=2)
    return train(write_config(folder, settings), folder / "run", *more)


@pytest.fixture(scope="module")
def undisturbed(forks, tmp_path_factory):
    """A run that nothing disturbed, and the seconds from its last step to its end."""
    folder = tmp_path_factory.mktemp("undisturbed")
    number = forks.start(*arguments(folder), finish=True)
    forks.wait_for(folder / "run" / "checkpoints" / f"state-{STEPS}.json", number)
    began = time.monotonic()
    forks.end(number).assert_done()
    return folder, time.monotonic() - began


@pytest.mark.parametrize("number", range(KILLS))
def test_killed_at_a_random_instant(number, forks, undisturbed, tmp_path):
    whole, seconds = undisturbed
    delay = random.Random(number).uniform(0, seconds)
    ended = forks(*arguments(tmp_path), finish=True, kill_later=[STEPS, delay])
    assert ended.code in (-KILL, 0), ended.error
    forks(*arguments(tmp_path, "--resume"), finish=True).assert_done()
    assert_same_training(tmp_path / "run", whole / "run")
    assert_same_end(tmp_path, whole)


@pytest.mark.parametrize("size", [300, 3_000, 20_000])
def test_no_file_may_grow(size, forks, undisturbed, tmp_path):
    fault = {"after_training": ["limit_size", [size]]}
    ended = forks(*arguments(tmp_path), finish=True, **fault)
    ended.assert_refused("can't be written")
    forks(*arguments(tmp_path, "--resume"), finish=True).assert_done()
    assert_same_end(tmp_path, undisturbed[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_after_the_training(number, forks, undisturbed, tmp_path):
    ended = forks(*arguments(tmp_path), finish=True, after_training=["send", [int(number)]])
    assert ended.code == 130, ended.error
    assert "Traceback" not in ended.error
    forks(*arguments(tmp_path, "--resume"), finish=True).assert_done()
    assert_same_end(tmp_path, undisturbed[0])


def test_an_export_folder_that_is_a_file_is_refused_first(forks, tmp_path):
    (tmp_path / "exported").write_text("mine")
    ended = forks(*arguments(tmp_path), finish=True)
    ended.assert_refused("export: ", "is not a folder")
    assert not (tmp_path / "run").exists()


def test_finished_attacks_are_not_repeated(forks, tmp_path):
    ended = forks(*arguments(tmp_path), finish=True, fail_part=["pgd"])
    assert "pgd is computed" in ended.error
    forks(*arguments(tmp_path, "--resume"), finish=True, fail_part=["fgsm"]).assert_done()
    assert not (tmp_path / "run" / "evaluation").exists()
