"""`keras-srt tune`: results, resumption, failures and the command."""

import json

import numpy as np
import pytest
from helpers import python, tiny, write_config

from keras_srt.cli import main as cli
from keras_srt.config import loader as configs
from keras_srt.core.errors import UserError
from keras_srt.pipeline.configs import COMPONENTS, load_config
from keras_srt.tuning import trial
from keras_srt.tuning.study import read_role, tune

SPACE = {
    "model.width": [2, 3],
    "training.learning_rate": {"min": 0.01, "max": 0.1, "sampling": "log"},
}


def settings(**changes):
    section = {"space": SPACE, "trials": 3, **changes}
    return tiny(training__steps=2, training__interval=2) | {"tune": section}


def config_of(**changes):
    return configs.parse(settings(**changes), COMPONENTS)


pytestmark = pytest.mark.usefixtures("eager", "untimed")


@pytest.fixture(scope="module")
def searched(eager, untimed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tune") / "search"
    return folder, tune(config_of(), folder, None)


def test_a_search_writes_tables_a_figure_and_the_best_config(searched):
    folder, outcomes = searched
    assert len(outcomes) == 3
    scores = [outcome.robust for outcome in outcomes]
    assert scores == sorted(scores, reverse=True)
    assert [each["trial"] for each in json.loads((folder / "trials.json").read_text())] == [
        outcome.trial for outcome in outcomes
    ]
    assert (folder / "trials.png").read_bytes().startswith(b"\x89PNG")
    assert (
        "3 trials; accuracy on the validation images; test images were not used"
        in (folder / "trials.md").read_text()
    )
    best = load_config(str(folder / "best.json"))
    assert (best.name, best.tune) == ("tiny-tuned", None)
    assert best.model.width == outcomes[0].values["model.width"]
    assert best.training.learning_rate == outcomes[0].values["training.learning_rate"]


def test_the_score_is_the_robust_validation_accuracy(searched):
    folder, outcomes = searched
    for outcome in outcomes:
        run = folder / "trials" / outcome.trial
        row = list(np.genfromtxt(run / "history.csv", delimiter=",", names=True, ndmin=1))[-1]
        # The neighborhood and its draws are the trial's own here.
        assert outcome.clean == pytest.approx(row["val_accuracy"], abs=1e-6)
        assert outcome.robust == pytest.approx(row["val_robust_accuracy"], abs=0.05)
        assert not (run / "report.json").exists()  # no test image was read


def test_without_its_journal_a_search_finds_its_finished_trials(searched, caplog):
    folder, outcomes = searched
    (folder / "journal.jsonl").write_bytes(b"garbage")
    before = {path: path.stat().st_mtime_ns for path in folder.glob("trials/*/history.csv")}
    assert tune(config_of(), folder, None, resume=True) == outcomes
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "damaged after 0 events" in caplog.text


def test_a_failing_trial_is_recorded_and_too_many_end_the_search(tmp_path, monkeypatch, caplog):
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
    assert "failed: training: loss is nan after step 1" in caplog.text
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


def test_invalid_settings_are_refused_without_importing_tensorflow(tmp_path):
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
