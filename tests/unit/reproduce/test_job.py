"""Jobs of `keras-srt reproduce`: reuse of finished work, output files, errors."""

import json
import shutil

import matplotlib.image
import numpy as np
import pytest
from reproduce_jobs import FGSM, PGD, STANDARD, JobFixtures, cells_of, run_of, small_target

from keras_srt.attacks import ATTACKS
from keras_srt.cli import main as cli
from keras_srt.core.errors import UserError
from keras_srt.evaluation.runner import evaluate_robustness
from keras_srt.pipeline.configs import load_run_config
from keras_srt.pipeline.context import RunContext


class TestJob(JobFixtures):
    """All tests share one finished job."""

    def test_the_results_are_those_of_one_evaluation(self, finished):
        results = json.loads((finished / "output" / "test-digits-smoke.json").read_text())
        cells = cells_of(results)
        for objective in ("standard", "srt"):
            run = run_of(finished, objective)
            config = load_run_config(run)
            context = RunContext.open(config, run)
            classifier, test = context.best_classifier, context.source.test(12)
            attacks = [ATTACKS.build(spec.settings) for spec in (FGSM, PGD)]
            all_images = evaluate_robustness(classifier, *test, attacks[:1])
            assert cells[objective, "clean"]["accuracy"] == np.mean(all_images.correct)
            assert cells[objective, "fgsm"]["accuracy"] == np.mean(all_images.surviving("fgsm"))
            assert (cells[objective, "fgsm"]["n"], cells[objective, "worst"]["n"]) == (12, 8)
            few = evaluate_robustness(classifier, test.images[:8], test.labels[:8], attacks)
            assert cells[objective, "worst"]["accuracy"] == np.mean(few.worst_case())

    def test_finished_work_is_not_repeated(self, job):
        first, _ = job()
        assert "2 trained, 0 started, 0 missing" in first
        assert "nothing to do" in first
        assert "train " not in first
        assert " on digits" not in first

    def test_targets_share_models_and_evaluations(self, job, tmp_path):
        printed, _ = job(small_target("other", (STANDARD,)))
        assert "nothing to do" in printed
        assert (tmp_path / "output" / "other-digits-smoke.md").is_file()

    def test_another_limit_is_evaluated_and_not_trained(self, job):
        printed, results = job(small_target(objectives=(STANDARD,)), limit=5)
        assert "train " not in printed
        assert {cell["n"] for cell in cells_of(results).values()} == {5}
        assert "[3/3] pgd on " in printed

    def test_missing_models_are_shown_as_not_run_without_training(self, job, tmp_path):
        shutil.rmtree(run_of(tmp_path, "standard").path)
        printed, results = job(train=False)
        assert "skipped (--no-train)" in printed
        assert "train digits" not in printed
        cells = cells_of(results)
        assert cells["standard", "fgsm"] == {"accuracy": None, "patent": None}
        assert cells["srt", "fgsm"]["accuracy"] is not None
        page = (tmp_path / "output" / "test-digits-smoke.md").read_text()
        assert "| **STANDARD** | ours | not run | not run | not run |" in page

    def test_a_target_has_four_files(self, finished):
        names = {path.name for path in (finished / "output").iterdir()}
        assert names == {f"test-digits-smoke.{ending}" for ending in ("md", "csv", "json", "png")}
        pixels = matplotlib.image.imread(finished / "output" / "test-digits-smoke.png")
        assert min(pixels.shape[:2]) > 300

    def test_an_output_folder_that_cannot_be_made_is_named(self, job, tmp_path):
        (tmp_path / "output").write_text("a file")
        with pytest.raises(UserError, match="--output"):
            job()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["table9"], ["TARGET", "table9", "table1"]),
        (["tabel1"], ["did you mean 'table1'"]),
        (["table5", "--dataset", "cifar10"], ["--dataset", "table5", "mnist"]),
        (["table3", "--dataset", "digits"], ["--dataset", "digits", "cifar10 or mnist"]),
        (["table3", "--scale", "huge"], ["--scale", "huge", "smoke, quick, cpu, full"]),
        (["table3", "--reading", "mine"], ["--reading", "mine", "patent, code"]),
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


def test_ctrl_c_exits_with_130_and_the_command_to_resume(monkeypatch, capsys, tmp_path):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_srt.reproduce.job.Store", interrupted)
    runs = tmp_path / "my runs"
    arguments = ["table5", "--runs", str(runs), "--limit", "50", "--seeds", "3", "--no-train"]
    arguments += ["--reading", "code"]
    assert cli.main(["reproduce", *arguments]) == 130
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert line == (
        f"  keras-srt reproduce table5 --scale quick --limit 50 --reading code --runs '{runs}' "
        "--seeds 3 --no-train"
    )
