"""`keras-srt tune`: the same trials again, going on after a kill, failures, and what is left."""

import json
import os
import socket
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from helpers import ROOT, clean_environment, python, tiny, write_config

from keras_srt.cli import main as cli
from keras_srt.config import loader as configs
from keras_srt.config.tune import TuneSettings
from keras_srt.core.errors import UserError
from keras_srt.pipeline import cost
from keras_srt.pipeline.configs import COMPONENTS, load_config
from keras_srt.tuning import trial
from keras_srt.tuning.figure import setting_axis
from keras_srt.tuning.journal import Journal
from keras_srt.tuning.oracles import decode, make_oracle
from keras_srt.tuning.study import Search, read_role, tune
from keras_srt.tuning.trial_results import Outcome, markdown_table, read_outcome, terminal_table

SPACE = {
    "model.width": [2, 3],
    "training.learning_rate": {"min": 0.01, "max": 0.1, "sampling": "log"},
}


def settings(**changes):
    section = {"space": SPACE, "trials": 3, **changes}
    return tiny(training__steps=2, training__interval=2) | {"tune": section}


def config_of(**changes):
    return configs.parse(settings(**changes), COMPONENTS)


@pytest.fixture(autouse=True)
def untimed(monkeypatch):
    monkeypatch.setattr(cost, "time_step", lambda *_: cost.StepTime(0.01, 16))


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tune") / "search"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "time_step", lambda *_: cost.StepTime(0.01, 16))
        return folder, tune(config_of(), folder, None)


class Memory:
    """A journal that isn't a file."""

    def __init__(self, events=()):
        self.events = list(events)

    def read(self):
        return list(self.events)

    def add(self, event):
        self.events.append(event)


def values_of(tuner, seed=0, journal=None, **more):
    """All trials that an oracle gives where each has the score of its learning rate."""
    made = TuneSettings(space=SPACE, tuner=tuner, seed=seed, **more)
    oracle = make_oracle(made, journal if journal is not None else Memory())
    with tempfile.TemporaryDirectory() as directory:
        Search(oracle, None, directory)
        oracle.replay()
        return given_by(oracle, made)


def given_by(oracle, made):
    found = []
    while (trial := oracle.create_trial("tuner0")).status != "STOPPED" and len(found) < 40:
        values = decode(made, trial.hyperparameters.values)
        found.append((trial.trial_id, values))
        score = values["training.learning_rate"]
        oracle.update_trial(trial.trial_id, {"robust_accuracy": score})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    return found


OF_KIND = {
    "random": {"trials": 5},
    "bayesian": {"trials": 5},
    "hyperband": {"max_epochs": 4, "factor": 2, "steps": 4},
}


@pytest.mark.parametrize("tuner", OF_KIND)
def test_a_seed_gives_the_same_trials_and_another_one_others(tuner):
    first = values_of(tuner, **OF_KIND[tuner])
    assert len(first) >= 5
    assert values_of(tuner, **OF_KIND[tuner]) == first
    assert values_of(tuner, seed=1, **OF_KIND[tuner]) != first
    for _, values in first:
        assert values["model.width"] in (2, 3)
        assert 0.01 <= values["training.learning_rate"] <= 0.1


@pytest.mark.parametrize("kept", [1, 4, 7])
@pytest.mark.parametrize("tuner", OF_KIND)
def test_cut_anywhere_the_search_goes_on_with_the_same_trials(tuner, kept):
    journal = Memory()
    whole = values_of(tuner, journal=journal, **OF_KIND[tuner])
    cut = Memory(journal.events[:kept])
    done = sum(event["event"] == "end" for event in cut.events)
    assert values_of(tuner, journal=cut, **OF_KIND[tuner]) == whole[done:]
    assert cut.events == journal.events


def test_a_search_leaves_table_figure_and_the_best_config(searched):
    folder, outcomes = searched
    assert len(outcomes) == 3
    scores = [outcome.robust for outcome in outcomes]
    assert scores == sorted(scores, reverse=True)
    assert [each["trial"] for each in json.loads((folder / "trials.json").read_text())] == [
        outcome.trial for outcome in outcomes
    ]
    assert (folder / "trials.png").read_bytes().startswith(b"\x89PNG")
    assert (
        "3 trials; accuracy on the validation images; no test image was seen"
        in (folder / "trials.md").read_text()
    )
    best = load_config(str(folder / "best.json"))
    assert (best.name, best.tune) == ("tiny-tuned", None)
    assert best.model.width == outcomes[0].values["model.width"]
    assert best.training.learning_rate == outcomes[0].values["training.learning_rate"]


def test_a_score_is_the_share_of_validation_images_that_hold(searched):
    folder, outcomes = searched
    for outcome in outcomes:
        run = folder / "trials" / outcome.trial
        row = list(np.genfromtxt(run / "history.csv", delimiter=",", names=True, ndmin=1))[-1]
        # The neighborhood and its draws are the trial's own here.
        assert outcome.clean == pytest.approx(row["val_accuracy"], abs=1e-6)
        assert outcome.robust == pytest.approx(row["val_robust_accuracy"], abs=0.05)
        assert not (run / "report.json").exists()  # no test image was read


def test_without_its_journal_a_search_finds_its_finished_trials(searched, capsys):
    folder, outcomes = searched
    (folder / "journal.jsonl").write_bytes(b"garbage")
    before = {path: path.stat().st_mtime_ns for path in folder.glob("trials/*/history.csv")}
    assert tune(config_of(), folder, None, resume=True) == outcomes
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "damaged after 0 events" in capsys.readouterr().out


def test_a_journal_ends_at_its_first_damaged_line(tmp_path, capsys):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for number in range(3):
        journal.add({"event": number})
    assert [event["event"] for event in journal.read()] == [0, 1, 2]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert [event["event"] for event in journal.read()] == [0]
    assert "damaged after 1 events" in capsys.readouterr().out
    journal.add({"event": 3})
    assert [event["event"] for event in journal.read()] == [0, 3]


def test_a_failing_trial_is_recorded_and_too_many_end_the_search(tmp_path, monkeypatch, capsys):
    from keras_srt.core.errors import NotFinite

    train, calls = trial.train, []

    def failing(context):
        calls.append(context.config.name)
        if len(calls) in fails:
            raise NotFinite("training: loss is nan after step 1; lower training.learning_rate")
        return train(context)

    monkeypatch.setattr(trial, "train", failing)
    fails = {1}
    outcomes = tune(config_of(trials=2), tmp_path / "one", None)
    assert [outcome.robust is None for outcome in outcomes] == [False, True]
    assert "loss is nan" in outcomes[1].reason
    assert "failed: training: loss is nan after step 1" in capsys.readouterr().out
    fails, calls = {1, 2}, []
    with pytest.raises(UserError, match=r"tune: 2 trials in a row failed, .*loss is nan"):
        tune(config_of(trials=5, failures=2), tmp_path / "many", None)


def test_the_command(tmp_path, capsys):
    path = write_config(tmp_path, settings(trials=1))
    folder = tmp_path / "search"
    assert cli.main(["tune", "--config", str(path), "--run-dir", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert f"train it    python train.py --config {folder / 'best.json'}" in printed
    assert cli.main(["tune", "--config", str(path), "--run-dir", str(folder)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert cli.main(["tune", "--config", str(write_config(tmp_path, name="none.json"))]) == 2
    assert "tune: missing" in capsys.readouterr().err


def test_a_search_starts_without_tensorflows_noise(tmp_path):
    path, folder = write_config(tmp_path, settings(trials=1)), tmp_path / "search"
    ended = python("-m", "keras_srt", "tune", "--config", str(path), "--run-dir", str(folder))
    assert (ended.returncode, ended.stderr) == (0, "")


def test_wrong_settings_answer_without_tensorflow(tmp_path):
    path = write_config(tmp_path, settings(space={"model.width": [2, 0]}))
    code = (
        "import sys; from keras_srt.cli import main as cli; "
        f"code = cli.main(['tune', '--config', {str(path)!r}]); "
        "assert not {'tensorflow', 'keras_tuner'} & set(sys.modules); sys.exit(code)"
    )
    ended = python("-c", code)
    assert ended.returncode == 2
    assert "with model.width=0" in ended.stderr


def test_roles_by_kerastuners_variables():
    chief = {
        "KERASTUNER_TUNER_ID": "chief",
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": "8000",
    }
    assert read_role(chief) == "chief"
    assert read_role({**chief, "KERASTUNER_TUNER_ID": "tuner0"}) == "worker"
    assert read_role({}) == "alone"
    with pytest.raises(UserError, match="KERASTUNER_ORACLE_PORT: missing"):
        read_role({**chief, "KERASTUNER_ORACLE_PORT": ""})


def test_tables_name_what_failed():
    made = [
        Outcome("0", {"model.width": 2}, 9, reason="NaN"),
        Outcome("1", {"model.width": 3}, 9, robust=0.5, clean=0.75, seconds=3),
    ]
    lines = terminal_table(made).splitlines()
    assert [line.split()[0] for line in lines] == ["trial", "1", "0", "trial"]
    assert lines[-1] == "trial 0 failed: NaN"
    assert "| 1 | 3 | 9 | 50.0 | 75.0 | 3 |" in markdown_table(made)


def test_an_axis_of_a_list_has_its_values_at_equal_distances():
    axis = setting_axis("x", ("a", None, 3))
    assert [axis.place(value) for value in ("a", None, 3)] == [0, 0.5, 1]
    assert [text for _, text in axis.ticks] == ["a", "null", "3"]


def test_half_an_outcome_is_none(tmp_path):
    (tmp_path / "trial.json").write_text('{"trial": ')
    assert read_outcome(tmp_path) is None
    Outcome("0", {"a": [1, None]}, 3, 0.5, 0.75, 1.0).save(tmp_path)
    assert read_outcome(tmp_path) == Outcome("0", {"a": [1, None]}, 3, 0.5, 0.75, 1.0)


def free_port():
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


@pytest.mark.slow
def test_a_chief_and_a_worker_find_what_one_process_does(searched, tmp_path):
    path, folder, port = write_config(tmp_path, settings()), tmp_path / "search", free_port()
    command = [sys.executable, "-m", "keras_srt", "tune", "--config", path, "--run-dir", folder]
    processes = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=clean_environment(
                KERASTUNER_TUNER_ID=name,
                KERASTUNER_ORACLE_IP="127.0.0.1",
                KERASTUNER_ORACLE_PORT=str(port),
            ) | {"PYTHONPATH": os.fspath(ROOT)},
        )
        for name in ("chief", "tuner0")
    ]  # fmt: skip
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "the search is over" in outputs[1]
    _, outcomes = searched
    found = json.loads((folder / "trials.json").read_text())
    assert [each["values"] for each in found] == [outcome.values for outcome in outcomes]
