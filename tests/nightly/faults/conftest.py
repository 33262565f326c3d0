"""The fault suite injects faults and prints how many cases of each group held.

A module's `GROUP` names its group. A test is a case; one that tries many records their number by
`record_property("cases", number)`.
"""

import collections
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import ROOT, clean_environment, tiny, write_config

FOLDER = Path(__file__).resolve().parent
_OUTCOMES = ("passed", "failed", "skipped")


def pytest_collection_modifyitems(items):
    for item in items:
        if FOLDER in item.path.parents:
            item.user_properties.append(("group", item.module.GROUP))


def pytest_terminal_summary(terminalreporter):
    groups = collections.defaultdict(collections.Counter)
    for outcome in _OUTCOMES:
        for report in terminalreporter.stats.get(outcome, ()):
            properties = dict(getattr(report, "user_properties", ()))
            if "group" in properties:
                groups[properties["group"]][outcome] += properties.get("cases", 1)
    if not groups:
        return
    terminalreporter.section("cases of each group")
    for name, counts in sorted(groups.items()):
        shown = ", ".join(f"{counts[outcome]:,} {outcome}" for outcome in _OUTCOMES)
        terminalreporter.write_line(f"{name:<45} {shown}")


class Ended:
    """How a forked command ended: its exit code (negative: the signal), what it printed."""

    def __init__(self, code, output, error):
        self.code, self.output, self.error = code, output, error

    def assert_done(self):
        assert self.code == 0, self.error
        assert "Traceback" not in self.error

    def assert_refused(self, *words):
        """One clear line, and no traceback."""
        assert self.code == 2, (self.code, self.output, self.error)
        assert "Traceback" not in self.error
        lines = [line for line in self.error.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.error
        for word in words:
            assert word in lines[0], lines[0]


class Forks:
    """Runs commands in forks of one process that has imported TensorFlow, which takes seconds."""

    def __init__(self, folder):
        self._folder = folder
        self._number = 0
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1", "TF_ENABLE_ONEDNN_OPTS": "0"}
        threads = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
        path = os.pathsep.join(map(str, (ROOT, FOLDER.parent, ROOT / "tests" / "support")))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faults.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=FOLDER.parent,
            env=clean_environment(**quiet, **threads) | {"PYTHONPATH": path},
        )

    def start(self, *arguments, **faults):
        """Starts `keras-srt ARGUMENTS` with the faults of `faults.injected`; gives its number."""
        self._number += 1
        self._tell(
            number=self._number,
            files=str(self._folder / str(self._number)),
            arguments=list(map(str, arguments)),
            faults=faults,
        )
        return self._number

    def end(self, number):
        """Waits for a command."""
        return self._ended(number, self._tell(wait=number))

    def _ended(self, number, code):
        texts = [
            Path(f"{self._folder / str(number)}.{name}").read_text(errors="replace")
            for name in ("out", "err")
        ]
        return Ended(code, *texts)

    def wait_for(self, path, number):
        """Waits until a command has made a file, however slow the machine is."""
        while not path.exists():
            ended = self._tell(poll=number)
            assert ended is None, self._ended(number, ended).error
            time.sleep(0.02)

    def __call__(self, *arguments, **faults):
        """Runs `keras-srt ARGUMENTS` to its end."""
        return self.end(self.start(*arguments, **faults))

    def _tell(self, **job):
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait(timeout=60)


@pytest.fixture(scope="session")
def forks(tmp_path_factory):
    made = Forks(tmp_path_factory.mktemp("forks"))
    yield made
    made.close()


# Whatever has a state of its own: augmentation, Dropout, momentum, a schedule, an average.
EVERYTHING = {
    "training__steps": 9,
    "training__schedule": {"name": "cosine"},
    "training__strength_warmup": 0.5,
    "training__ema": 0.9,
    "model__dropout": 0.5,
    "data__augmentation": {"pad": 2, "flip": True},
}
TEACHER = {
    "objective": {"name": "rst", "teacher_steps": 4},
    "data__unlabeled": 50,
    "training__labeled_per_batch": None,
}


@pytest.fixture(scope="session")
def configs(tmp_path_factory):
    """Config files by name."""
    folder = tmp_path_factory.mktemp("configs")
    settings = {"all": EVERYTHING, "teacher": {**EVERYTHING, **TEACHER}}
    return {
        name: write_config(folder, tiny(**changes), f"{name}.json")
        for name, changes in settings.items()
    }


class Trained:
    """The files of a training, to compare with another."""

    def __init__(self, run):
        from keras_srt.core import files
        from keras_srt.training.checkpoint_files import manifests

        self.run, self.manifest = run, manifests(run / "checkpoints")[0]
        content = files.read_checksummed_json(self.manifest)
        self.rows = [{k: v for k, v in r.items() if k != "seconds"} for r in content["history"]]
        self.score = files.read_checksummed_json(run / "checkpoints" / "best.json")
        self.score.pop("sha256")

    def tensors(self):
        """Weights, optimizer, averages and the step, by name."""
        import tensorflow as tf

        reader = tf.train.load_checkpoint(str(self.manifest.with_suffix("")))
        names = [name for name in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name]
        return {name: reader.get_tensor(name) for name in names if "means/" not in name}

    def best(self):
        """The weights of the best classifier, by name."""
        import h5py

        found = {}

        def note(name, part):
            if isinstance(part, h5py.Dataset):
                found[name] = part[()]

        with h5py.File(self.run / "checkpoints" / "best.weights.h5") as file:
            file.visititems(note)
        return found


def assert_same_training(run, other):
    """The same to the bit: the last state, the history, the best classifier."""
    import numpy as np

    one, two = Trained(run), Trained(other)
    assert one.manifest.name == two.manifest.name
    assert one.rows == two.rows
    assert one.score == two.score
    for found, wanted in ((one.tensors(), two.tensors()), (one.best(), two.best())):
        assert found.keys() == wanted.keys()
        assert wanted
        for name, value in wanted.items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)
    columns = [(path / "history.csv").read_text().splitlines() for path in (run, other)]
    assert len(columns[0]) == len(columns[1]) == len(one.rows) + 1
    assert not list(run.rglob(".draft-*"))


@pytest.fixture(scope="session")
def whole(forks, configs, tmp_path_factory):
    """Run folders of trainings that nothing disturbed, by the names of their configs."""
    folder = tmp_path_factory.mktemp("whole")
    for name, config in configs.items():
        forks(*train(config, folder / name)).assert_done()
    return {name: folder / name for name in configs}


@pytest.fixture(scope="session")
def begun(forks, configs, tmp_path_factory):
    """The run folder of a training that was killed at step 8 of 9: states of steps 3 and 6."""
    run = tmp_path_factory.mktemp("begun") / "run"
    assert forks(*train(configs["all"], run), signal_at_step=[8, 9]).code == -9
    return run


@pytest.fixture
def copied(begun, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(begun, tmp_path / "run"))


def train(config, run, *more):
    """The arguments of a training."""
    return ("train", "--config", config, "--run-dir", run, *more)
