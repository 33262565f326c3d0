"""Fixtures for tests of `keras-srt reproduce`: one finished job, and jobs on copies of it."""

import json
import shutil

import pytest
from helpers import tiny, write_config

from keras_srt.cli.output import shown_logs
from keras_srt.pipeline.configs import load_config
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.reproduce import job_models
from keras_srt.reproduce.job import Request, reproduce
from keras_srt.reproduce.specs import AttackSpec, Cell, Column, ModelSpec, Panel, Row, Target

FGSM = AttackSpec({"name": "fgsm", "epsilon": 0.1})
PGD = AttackSpec({"name": "pgd", "epsilon": 0.1, "num_steps": 3}, images=8, passes=6)
# Tracing the standard objective takes a fraction of the time of SRT.
STANDARD, SRT = ModelSpec("pixel", "standard"), ModelSpec("pixel", "srt")


def small_target(name="test", objectives=(STANDARD, SRT)):
    """Two models: clean, under one attack, and under the worst case of two attacks."""
    columns = (Column("clean", "clean"), Column("fgsm", "FGSM"), Column("worst", "worst case"))
    rows = tuple(
        Row(m.objective, m.objective.upper(), (Cell(m), Cell(m, (FGSM,)), Cell(m, (FGSM, PGD))))
        for m in objectives
    )
    return Target(name, "digits", "smoke", "A test", (Panel("panel", columns, rows),), 12)


def small_config(folder):
    """Replace the recipe of a spec by a tiny config."""

    def make(spec, dataset, scale, seed=0):
        settings = tiny(
            name=f"{dataset}-{spec.name}", objective={"name": spec.objective}, seed=seed
        )
        if spec.objective == "standard":
            settings["training"]["labeled_per_batch"] = None
        return load_config(str(write_config(folder, settings)))

    return make


def run_of(folder, objective):
    (path,) = (folder / "runs").glob(f"digits-pixel-10000-{objective}-*")
    return RunFolder(path)


def cells_of(results):
    return {
        (row["key"], column["key"]): cell
        for panel in results["panels"]
        for row in panel["rows"]
        for column, cell in zip(panel["columns"], row["cells"], strict=True)
    }


class JobFixtures:
    """The fixtures `finished` and `job` for test classes."""

    @pytest.fixture(scope="class")
    @classmethod
    def finished(cls, eager, tmp_path_factory):
        """A folder with the finished runs of the small target, and its results."""
        folder = tmp_path_factory.mktemp("finished")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(job_models, "make_config", small_config(folder))
            reproduce(Request((small_target(),), folder / "runs", folder / "output"))
        return folder

    @pytest.fixture
    def job(self, finished, tmp_path, monkeypatch, capsys):
        """Run a job on a copy of the finished runs; return its messages and results."""
        monkeypatch.setattr(job_models, "make_config", small_config(tmp_path))
        shutil.copytree(finished / "runs", tmp_path / "runs")

        def run(target=None, **options):
            capsys.readouterr()
            target = target or small_target()
            with shown_logs():
                reproduce(Request((target,), tmp_path / "runs", tmp_path / "output", **options))
            path = tmp_path / "output" / f"{target.file_name}.json"
            return capsys.readouterr().out, json.loads(path.read_text())

        return run
