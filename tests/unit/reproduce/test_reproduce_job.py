"""`keras-srt reproduce` at work: reuse, resume, progress, tables, figures, messages."""

import csv
import io
import json
import shutil

import matplotlib.colors
import matplotlib.image
import numpy as np
import pytest
from helpers import tiny, write_config

from keras_srt.cli import main as cli
from keras_srt.cli.output import shown_logs
from keras_srt.core.errors import Interrupted, UserError
from keras_srt.evaluation.runner import evaluate_robustness
from keras_srt.pipeline.configs import load_config, load_run_config
from keras_srt.pipeline.context import RunContext
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.reproduce import job as reproduce_job
from keras_srt.reproduce import tables
from keras_srt.reproduce import trained_models as models
from keras_srt.reproduce.figures import make_figure
from keras_srt.reproduce.job import Request, reproduce
from keras_srt.reproduce.job_costs import Clock
from keras_srt.reproduce.specs import AttackSpec, Cell, Column, ModelSpec, Panel, Row, Target
from keras_srt.reproduce.target_results import summarize
from keras_srt.training import callbacks

FGSM = AttackSpec({"name": "fgsm", "epsilon": 0.1})
PGD = AttackSpec({"name": "pgd", "epsilon": 0.1, "num_steps": 3}, images=8, passes=6)
# Tracing the first costs a fraction of tracing the second.
STANDARD, SRT = ModelSpec("pixel", "standard"), ModelSpec("pixel", "srt")


def small_target(name="test", objectives=(STANDARD, SRT)):
    """Two models, untampered, under one attack, and under the worst of two."""
    columns = (Column("clean", "clean"), Column("fgsm", "FGSM"), Column("worst", "worst case"))
    rows = tuple(
        Row(m.objective, m.objective.upper(), (Cell(m), Cell(m, (FGSM,)), Cell(m, (FGSM, PGD))))
        for m in objectives
    )
    return Target(name, "digits", "smoke", "A test", (Panel("panel", columns, rows),), 12)


def small_config(folder):
    """Makes the tiny config of a spec, in place of a recipe."""

    def make(spec, dataset, scale, seed=0):
        settings = tiny(
            name=f"{dataset}-{spec.name}", objective={"name": spec.objective}, seed=seed
        )
        if spec.objective == "standard":
            settings["training"]["labeled_per_batch"] = None
        return load_config(str(write_config(folder, settings)))

    return make


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with the finished runs of the small target, its results, and what was printed."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "make_config", small_config(folder))
        reproduce(Request((small_target(),), folder / "runs", folder / "output"))
    return folder


@pytest.fixture
def job(finished, tmp_path, monkeypatch, capsys):
    """Runs a job on a copy of the finished runs; returns what it printed, and its results."""
    monkeypatch.setattr(models, "make_config", small_config(tmp_path))
    shutil.copytree(finished / "runs", tmp_path / "runs")

    def run(target=None, **options):
        capsys.readouterr()
        target = target or small_target()
        with shown_logs():
            reproduce(Request((target,), tmp_path / "runs", tmp_path / "output", **options))
        path = tmp_path / "output" / f"{target.file_name}.json"
        return capsys.readouterr().out, json.loads(path.read_text())

    return run


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


# Work.


def test_the_results_are_those_of_one_evaluation(finished):
    results = json.loads((finished / "output" / "test-digits-smoke.json").read_text())
    cells = cells_of(results)
    for objective in ("standard", "srt"):
        run = run_of(finished, objective)
        config = load_run_config(run)
        context = RunContext.open(config, run)
        classifier, test = context.best_classifier, context.source.test(12)
        attacks = [models.ATTACKS.build(spec.settings) for spec in (FGSM, PGD)]
        all_images = evaluate_robustness(classifier, *test, attacks[:1])
        assert cells[objective, "clean"]["accuracy"] == np.mean(all_images.correct)
        assert cells[objective, "fgsm"]["accuracy"] == np.mean(all_images.surviving("fgsm"))
        assert (cells[objective, "fgsm"]["n"], cells[objective, "worst"]["n"]) == (12, 8)
        few = evaluate_robustness(classifier, test.images[:8], test.labels[:8], attacks)
        assert cells[objective, "worst"]["accuracy"] == np.mean(few.worst_case())


def test_nothing_is_done_twice(job):
    first, _ = job()
    assert "2 trained, 0 begun, 0 missing" in first
    assert "nothing to do" in first
    assert "train " not in first
    assert " on digits" not in first


def test_targets_share_models_and_evaluations(job, tmp_path):
    printed, _ = job(small_target("other", (STANDARD,)))
    assert "nothing to do" in printed
    assert (tmp_path / "output" / "other-digits-smoke.md").is_file()


def test_another_limit_is_evaluated_and_not_trained(job):
    printed, results = job(small_target(objectives=(STANDARD,)), limit=5)
    assert "train " not in printed
    assert {cell["n"] for cell in cells_of(results).values()} == {5}
    assert "[3/3] pgd on " in printed


def test_a_changed_classifier_is_evaluated_anew(job, tmp_path):
    run = run_of(tmp_path, "standard")
    for name in ("best.weights.h5", "best.json"):
        shutil.copy(run_of(tmp_path, "srt").checkpoints / name, run.checkpoints / name)
    printed, results = job()
    assert "train " not in printed
    assert printed.count(" on digits-pixel-10000-standard") == 3
    assert " on digits-pixel-10000-srt" not in printed
    cells = cells_of(results)
    assert cells["standard", "fgsm"]["accuracy"] == cells["srt", "fgsm"]["accuracy"]


def test_what_is_missing_is_not_run_without_training(job, tmp_path):
    shutil.rmtree(run_of(tmp_path, "standard").path)
    printed, results = job(train=False)
    assert "left out (--no-train)" in printed
    assert "train digits" not in printed
    cells = cells_of(results)
    assert cells["standard", "fgsm"] == {"accuracy": None, "paper": None}
    assert cells["srt", "fgsm"]["accuracy"] is not None
    page = (tmp_path / "output" / "test-digits-smoke.md").read_text()
    assert "| **STANDARD** | ours | not run | not run | not run |" in page


def test_what_is_missing_is_trained_and_resumed_and_the_rest_reused(job, tmp_path, monkeypatch):
    before = run_of(tmp_path, "srt").best_weights.stat().st_mtime_ns
    shutil.rmtree(run_of(tmp_path, "standard").path)

    class InterruptAtStep4(callbacks.StopAtNaN):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.optimizer.iterations.numpy()) == 4:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "StopAtNaN", InterruptAtStep4)
        with pytest.raises(Interrupted, match="finished parts are saved"):
            job()
    printed, results = job()
    assert "1 trained, 1 begun, 0 missing" in printed
    assert "resuming at step 4" in printed
    assert "[1/4] train digits-pixel-10000-standard" in printed
    assert printed.count("train digits") == 1
    assert cells_of(results)["standard", "fgsm"]["accuracy"] is not None
    assert run_of(tmp_path, "srt").best_weights.stat().st_mtime_ns == before


def test_an_interrupted_evaluation_loses_one_attack_at_most(job, tmp_path, monkeypatch):
    shutil.rmtree(run_of(tmp_path, "standard").path / "evaluations")
    evaluate, calls = reproduce_job.run_attacks, []

    def interrupted(config, classifier, test, attacks):
        calls.append(attacks)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return evaluate(config, classifier, test, attacks)

    with monkeypatch.context() as patch:
        patch.setattr(reproduce_job, "run_attacks", interrupted)
        with pytest.raises(Interrupted, match="finished parts are saved"):
            job()
    printed, _ = job()
    assert printed.count(" on digits-pixel-10000-standard") == 1


def test_seeds_are_trained_apart_and_shown_as_mean_and_range(job):
    printed, results = job(small_target(objectives=(STANDARD,)), seeds=2)
    assert printed.count("train digits") == 1
    cell = cells_of(results)["standard", "fgsm"]
    assert list(cell["seeds"]) == ["0", "1"]
    assert cell["accuracy"] == pytest.approx(np.mean(list(cell["seeds"].values())))
    assert [model["seed"] for model in results["models"]] == [0, 1]


def test_the_interval_of_several_seeds_is_that_of_one_model():
    ten = np.arange(10)
    found = summarize([ten < 9, ten < 7])
    assert (found["accuracy"], found["n"]) == (pytest.approx(0.8), 10)
    np.testing.assert_allclose(found["ci95"], [0.4902, 0.9433], atol=5e-5)


def test_the_clock_corrects_its_estimates(monkeypatch):
    times = iter([0.0, 20.0, 20.0, 21.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    clock = Clock([("train", 10.0), ("train", 30.0), ("attack", 4.0)])
    assert clock.left == 44.0
    assert clock.begin() == "[1/3]"
    assert clock.end("train", 10.0) == 20.0
    assert clock.left == 2 * 30.0 + 4.0  # trainings take twice as long as estimated
    assert clock.begin() == "[2/3]"
    clock.end("attack", 4.0)
    assert clock.left == 60.0


# Tables and figures.


def cell(accuracy, paper=None, seeds=None, n=1000):
    if accuracy is None:
        return {"accuracy": None, "paper": paper}
    seeds = seeds or {"0": accuracy}
    difference = None if paper is None else accuracy - paper
    interval = [accuracy - 0.02, accuracy + 0.01]
    return {"accuracy": accuracy, "ci95": interval, "n": n, "seeds": seeds} | {
        "paper": paper,
        "difference": difference,
    }


@pytest.fixture
def results():
    """Results made by hand, with every kind of cell."""
    columns = [{"key": "clean", "title": "clean"}, {"key": "pgd", "title": "PGD"}]
    seeds = {"0": 0.95, "1": 0.97}
    rows = [
        {"key": "rt", "title": "RT", "cells": [cell(0.98), cell(0.9, n=200)]},
        {"key": "srt", "title": "SRT", "cells": [cell(0.99, 0.993), cell(0.96, 0.966, seeds)]},
        {"key": "uat", "title": "UAT++", "cells": [cell(None), cell(None, 0.5)]},
    ]
    distance = {"norm": "l2", "mean": 1.25, "median": None, "found": 7, "accuracy_at": []}
    distance["accuracy_at"] = [{"epsilon": 0.5, "accuracy": 0.75}]
    rows[0]["cells"][1]["distances"] = [distance]
    settings = {"name": "pgd", "epsilon": 8 / 255, "step_size": None, "random_start": True}
    model = {"name": "m", "objective": {"name": "srt", "robust_weight": 1.0}, "seed": 0}
    model |= {"labeled": 10000, "unlabeled": 49000, "labeled_per_step": 64, "steps": 1000}
    return {
        "target": "table3", "title": "Table 3", "dataset": "mnist", "scale": "quick",
        "reduced": True, "command": "keras-srt reproduce table3", "notes": ["A note."],
        "paper": "source", "attacks": [{"settings": settings, "images": 1000}],
        "panels": [{"title": "Panel", "axis": None, "columns": columns, "rows": rows}],
        "models": [model | {"train_seconds": 480.0, "folder": "m-1234"}],
    }  # fmt: skip


def test_the_page_literally(results):
    page = tables.markdown(results)
    assert page.splitlines() == [
        "# Table 3 (mnist, quick)",
        "",
        "**Reduced run** (scale `quick`): smaller models, fewer steps or fewer test images than "
        "the paper's; the numbers are no reproduction of the paper's.",
        "",
        "A note.",
        "",
        "## Panel",
        "",
        "|  |  | clean (n=1,000) | PGD (n=200, 1,000) |",
        "| --- | --- | --- | --- |",
        "| **RT** | ours | 98.0 [96.0, 99.0] | 90.0 [88.0, 91.0] |",
        "|  | paper | – | – |",
        "| **SRT** | ours | 99.0 [97.0, 100.0] | 96.0 [94.0, 97.0], 2 seeds 95.0 to 97.0 |",
        "|  | paper | 99.30 (ours −0.3) | 96.60 (ours −0.6) |",
        "| **UAT++** | ours | not run | not run |",
        "|  | paper | – | 50.00 |",
        "",
        "Accuracy in % with its 95% Wilson interval: right before and after the attack.",
        "Of several seeds: their mean, the interval of one model, and their range.",
        "–: the paper's number isn't in `keras_srt/reproduce/paper.json`, which says how to add "
        "it.",
        "not run: the command below trains and evaluates it.",
        "",
        "## Attacks",
        "",
        "- `pgd`: epsilon 8/255, random_start true; on the first 1,000 test images",
        "",
        "## Smallest perturbations",
        "",
        "| model | attack | norm | median | mean | found | accuracy at each radius |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| RT | PGD | l2 | – | 1.25 | 7 | 0.5: 75.0 |",
        "",
        "## Models",
        "",
        "| model | seed | objective | labels | unlabeled | labeled a step | steps | training |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| `m-1234` | 0 | srt (robust_weight 1) | 10,000 | 49,000 | 64 | 1,000 | 8 min |",
        "",
        "## Command",
        "",
        "```sh",
        "keras-srt reproduce table3",
        "```",
        "",
        "The paper: source",
    ]


def test_a_full_run_is_not_called_reduced(results):
    page = tables.markdown(results | {"reduced": False, "scale": "full"})
    assert "educed" not in page
    figure = make_figure(results | {"reduced": False, "scale": "full"})
    assert "educed" not in figure.get_suptitle()


def test_a_target_that_the_paper_lacks_has_no_lines_for_it(results):
    page = tables.markdown(results | {"paper": None})
    for words in ("| paper |", "paper.json", "The paper:"):
        assert words in tables.markdown(results)
        assert words not in page
    assert "| **SRT** | ours | 99.0" in page


def test_the_csv_has_a_line_for_each_cell(results):
    rows = list(csv.DictReader(io.StringIO(tables.comma_separated(results))))
    assert [(row["row"], row["column"]) for row in rows] == [
        (key, column) for key in ("rt", "srt", "uat") for column in ("clean", "pgd")
    ]
    srt = rows[3]
    assert (srt["accuracy"], srt["n"], srt["paper"]) == ("0.96", "1000", "0.966")
    assert (srt["seeds"], srt["seed_low"], srt["seed_high"]) == ("2", "0.95", "0.97")
    assert float(srt["difference"]) == pytest.approx(-0.006)
    assert (rows[5]["accuracy"], rows[5]["paper"], rows[4]["paper"]) == ("", "0.5", "")


def test_bars_stand_where_the_numbers_are(results):
    figure = make_figure(results)
    (axes,) = figure.axes
    assert "Reduced run: scale quick" in figure.get_suptitle()
    heights = {bars.get_label(): bars.datavalues.tolist() for bars in axes.containers[::2]}
    assert heights == {"RT": [98.0, 90.0], "SRT": [99.0, 96.0]}
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["RT", "SRT", "paper"]
    marks = np.concatenate([points.get_offsets()[:, 1] for points in axes.collections[-2:]])
    np.testing.assert_allclose(sorted(marks), [50.0, 96.6, 99.3])


def test_sweeps_are_lines_with_a_panel_each(results):
    panel = results["panels"][0] | {"axis": "labels"}
    figure = make_figure(results | {"panels": [panel, panel | {"title": "Second"}]})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Panel", "Second"]
    for axes in figure.axes:
        assert axes.get_xlabel() == "labels"
        assert [label.get_text() for label in axes.get_xticklabels()] == ["clean", "PGD"]
        lines = {c.get_label(): c.lines[0].get_ydata().tolist() for c in axes.containers}
        assert lines == {"RT": [98.0, 90.0], "SRT": [99.0, 96.0]}


def test_a_defense_has_its_color_in_every_figure(results):
    panel = results["panels"][0]
    (bars,) = make_figure(results).axes
    keys = {"rt": "rt_pgd", "srt": "srt_pgd", "uat": "uat_pgd"}
    rows = [row | {"key": keys[row["key"]]} for row in reversed(panel["rows"])]
    lines = panel | {"axis": "labels", "rows": rows}
    (sweep,) = make_figure(results | {"panels": [lines]}).axes
    of_bars = {c.get_label(): c.patches[0].get_facecolor() for c in bars.containers[::2]}
    of_lines = {c.get_label(): c.lines[0].get_color() for c in sweep.containers}
    assert set(of_bars) == set(of_lines) == {"RT", "SRT"}
    for title, color in of_bars.items():
        assert matplotlib.colors.same_color(color, of_lines[title])


def test_a_target_has_four_files(finished):
    names = {path.name for path in (finished / "output").iterdir()}
    assert names == {f"test-digits-smoke.{ending}" for ending in ("md", "csv", "json", "png")}
    pixels = matplotlib.image.imread(finished / "output" / "test-digits-smoke.png")
    assert min(pixels.shape[:2]) > 300


# Messages.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["table9"], ["TARGET", "table9", "table1"]),
        (["tabel1"], ["did you mean 'table1'"]),
        (["table5", "--dataset", "cifar10"], ["--dataset", "table5", "mnist"]),
        (["table3", "--dataset", "digits"], ["--dataset", "digits", "cifar10 or mnist"]),
        (["table3", "--scale", "huge"], ["--scale", "huge", "smoke, quick, full"]),
        (["table3", "--limit", "0"], ["--limit", "0", "at least 1"]),
        (["table3", "--seeds", "-1"], ["--seeds", "-1", "at least 1"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, arguments, words):
    assert cli.main(["reproduce", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line


def test_an_output_folder_that_cannot_be_made_is_named(job, tmp_path):
    (tmp_path / "output").write_text("a file")
    with pytest.raises(UserError, match="--output"):
        job()


def test_ctrl_c_exits_with_130_and_the_command_to_go_on(monkeypatch, capsys, tmp_path):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_srt.reproduce.job.Store", interrupted)
    runs = tmp_path / "my runs"
    arguments = ["table5", "--runs", str(runs), "--limit", "50", "--seeds", "3", "--no-train"]
    assert cli.main(["reproduce", *arguments]) == 130
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert line == (
        f"  keras-srt reproduce table5 --scale quick --limit 50 --runs '{runs}' --seeds 3 "
        "--no-train"
    )
