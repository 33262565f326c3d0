"""Runs that are resumed: after an interruption, or with a longer training."""

import json

import numpy as np
import pytest
from helpers import write_config
from resumed_runs import check_resumed_run

from keras_srt.cli import main as cli
from keras_srt.core.errors import UserError
from keras_srt.pipeline.classifiers import load_best_classifier
from keras_srt.pipeline.configs import load_config
from keras_srt.pipeline.run_folder import RunFolder


def test_a_run_interrupted_at_the_end_of_an_interval_is_bit_equal(tmp_path, monkeypatch):
    check_resumed_run(tmp_path, monkeypatch, 6, "rt")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The config of a run of 6 steps, and its folder."""
    folder = tmp_path_factory.mktemp("trained")
    config, run = write_config(folder), folder / "run"
    assert cli.main(["train", str(config), "--run-dir", str(run)]) == 0
    return config, run


def test_a_finished_run_that_is_extended_is_equal_to_a_long_one(trained, tmp_path):
    config, run = trained
    longer = ["--set", "training.steps=9"]
    assert cli.main(["train", str(config), "--run-dir", str(run), "--resume", *longer]) == 0
    assert cli.main(["train", str(config), "--run-dir", str(tmp_path / "long"), *longer]) == 0

    reports, weights = [], []
    for folder in (run, tmp_path / "long"):
        report = json.loads((folder / "report.json").read_text())
        reports.append((report["clean"], [attack["accuracy"] for attack in report["attacks"]]))
        settings = load_config(str(config))
        info = settings.data.dataset.open().info
        weights.append(load_best_classifier(settings, RunFolder(folder), info).get_weights())
        assert RunFolder(folder).read_history()[-1]["step"] == "9"
    assert reports[0] == reports[1]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("change", ["training.steps=3", "training.epochs=3", "seed=1"])
def test_a_run_is_only_extended(trained, change):
    config, run = trained
    before = (run / "report.json").read_text()
    longer = load_config(str(config), None, [change]).to_json()
    with pytest.raises(UserError, match="another config"):
        RunFolder(run).claim(longer, resume=True)
    assert (run / "report.json").read_text() == before
