"""Runs and exports measure the exported files and report the results."""

import json
import shutil

import numpy as np
import pytest
from deployment_sample import DEPLOYMENT
from helpers import tiny, write_config

from keras_srt.cli import main as cli
from keras_srt.evaluation.attacked_images import AttackedImages
from keras_srt.exporters.export import ExportResult
from keras_srt.pipeline import publish
from keras_srt.pipeline import run as pipeline


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished tiny run with a deployment part; publishing and measuring are faked."""
    folder = tmp_path_factory.mktemp("run")
    config = write_config(folder, tiny(evaluation__deployment=12))
    seen = []

    def export_run(config, run, data_dir, version=1, *_):
        return ExportResult(version, folder / str(version), folder / "tflite", 0.0, (), folder, ())

    def fake_measure(classifier, savedmodel, tflite, attacked):
        seen.append(attacked)
        return DEPLOYMENT | {"version": int(savedmodel.name)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "export_run", export_run)
        patch.setattr(publish, "measure", fake_measure)
        assert cli.main(["train", "--config", str(config), "--run-dir", str(folder / "run")]) == 0
        yield folder / "run", seen


def test_the_reports_of_a_run_have_the_deployment(run):
    folder, seen = run
    report = json.loads((folder / "report.json").read_text())
    assert report["deployment"] == json.loads(json.dumps(DEPLOYMENT | {"version": 1}))
    assert {"clean", "attacks", "worst_case", "risks"} <= set(report)
    page = (folder / "report.html").read_text()
    assert "int8 lost accuracy (pgd)" in page
    # The bars, three of the classes, the examples, the training.
    assert page.count("<figure>") == 6
    attacked = seen[0]
    assert len(attacked.labels) == 12
    assert list(attacked.attacked) == ["fgsm", "pgd"]
    kept = AttackedImages.load(folder / "attacked.npz")
    np.testing.assert_array_equal(kept.images, attacked.images)


def test_export_measures_again_on_the_images_of_the_run(run, tmp_path, capsys):
    original, seen = run
    shutil.copytree(original, tmp_path / "run")
    assert cli.main(["export", "--run", str(tmp_path / "run"), "--version", "9"]) == 0
    output = capsys.readouterr().out
    assert "warning: int8 lost accuracy (pgd)" in output
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["deployment"]["version"] == 9
    np.testing.assert_array_equal(seen[-1].attacked["pgd"], seen[0].attacked["pgd"])
    # Without the file of attacked images the images are attacked again, with the same result.
    (tmp_path / "run" / "attacked.npz").unlink()
    assert cli.main(["export", "--run", str(tmp_path / "run"), "--version", "10"]) == 0
    np.testing.assert_allclose(seen[-1].attacked["pgd"], seen[0].attacked["pgd"], atol=1e-6)


def test_ctrl_c_while_measuring_leaves_the_report_unchanged(run, tmp_path, monkeypatch):
    original, _ = run
    shutil.copytree(original, tmp_path / "run")
    before = (tmp_path / "run" / "report.json").read_bytes()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(publish, "measure", interrupted)
    assert cli.main(["export", "--run", str(tmp_path / "run"), "--version", "11"]) == 130
    assert (tmp_path / "run" / "report.json").read_bytes() == before
