"""The command line: exit codes, messages, the files of a run, interruption and resume."""

import csv
import json
import math
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import tiny, write_config
from terminals import terminal
from tiny_runs import counted_calls

from keras_srt.cli import main as cli
from keras_srt.core.images import FORMATS
from keras_srt.core.tensorflow import keras
from keras_srt.pipeline.classifiers import build_model
from keras_srt.pipeline.configs import load_config
from keras_srt.pipeline.plan import make_plan
from keras_srt.training.checkpoints import Checkpoints

NOISE = ("cuDNN", "cuBLAS", "oneDNN", "TFA", "Addons", "TensorRT", "cpu_feature_guard", "Warning")


def files_of(folder):
    """Every file below a folder with its content."""
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class Run(NamedTuple):
    """A config file and the folder of the run that it made."""

    config: Path
    folder: Path


@pytest.fixture(scope="module")
def counted_run(tmp_path_factory):
    """A tiny run, and how often it planned, read its dataset and built."""
    folder = tmp_path_factory.mktemp("finished")
    run = Run(write_config(folder), folder / "run")
    with counted_calls() as calls:
        assert cli.main(["train", "--config", str(run.config), "--run-dir", str(run.folder)]) == 0
    return run, calls


@pytest.fixture
def finished(counted_run):
    """The tiny run, trained, evaluated and exported: read it, don't change it.

    Its config exports into `config.parent / "exported"`.
    """
    return counted_run[0]


@pytest.fixture
def run_copy(finished, tmp_path):
    """The finished run with a copy of its folder, for a test that changes it."""
    folder = shutil.copytree(finished.folder, tmp_path / "run")
    return Run(finished.config, folder)


@pytest.fixture
def rejected(capsys):
    """Runs a command line that must be refused, and returns its one line of stderr."""

    def check(*arguments):
        capsys.readouterr()
        assert cli.main([str(argument) for argument in arguments]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        return lines[0]

    return check


# What a run does and leaves behind.


def test_a_run_plans_and_reads_each_part_once_and_builds_two_classifiers(counted_run):
    """One classifier is trained, and one holds the best weights."""
    once = dict.fromkeys(("split_sizes", "open", "load_train", "load_test"), 1)
    assert counted_run[1] == once | {"build": 2}


def test_report_json_keeps_its_contract(finished):
    _, run = finished
    report = json.loads((run / "report.json").read_text())
    assert report["schema"] == 1
    assert report["name"] == "tiny"
    assert report["dataset"]["name"] == "digits"
    assert report["objective"]["name"] == "srt"
    config = json.loads((run / "config.json").read_text())
    assert [a["name"] for a in report["attacks"]] == [
        a["name"] for a in config["evaluation"]["attacks"]
    ]
    for attack in report["attacks"]:
        assert {"name", "norm", "epsilon", "settings", "accuracy", "ci95", "n", "seconds"} <= set(
            attack
        )
        assert attack["norm"] == "linf"
        assert attack["epsilon"] == attack["settings"]["epsilon"] == 0.1
    assert report["worst_case"]["attacks"] == [a["name"] for a in report["attacks"]]
    for part in (report["clean"], report["worst_case"], *report["attacks"]):
        low, high = part["ci95"]
        assert 0 <= low <= part["accuracy"] <= high <= 1
        assert part["n"] == 20
        assert math.isclose(part["accuracy"] * 20, round(part["accuracy"] * 20), abs_tol=1e-9)
    strongest = min(a["accuracy"] for a in report["attacks"])
    assert report["worst_case"]["accuracy"] <= strongest <= report["clean"]["accuracy"]


def test_environment_split_and_history_say_what_happened(finished):
    _, run = finished
    environment = json.loads((run / "environment.json").read_text())
    packages = environment["packages"]
    assert packages["tensorflow"].startswith("2.")
    assert packages["keras"] == keras.__version__
    split = json.loads((run / "split.json").read_text())
    parts = [set(split[part]) for part in ("labeled", "unlabeled", "validation")]
    assert [len(part) for part in parts] == [40, 1297 - 70, 30]
    assert len(set.union(*parts)) == 1297
    with (run / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [3, 6]
    assert {"loss", "val_accuracy", "val_robust_accuracy", "learning_rate"} <= set(rows[0])


def test_evaluate_finds_what_the_report_says(finished, tmp_path, capsys):
    _, run = finished
    before = files_of(run)
    output = tmp_path / "again.json"
    assert cli.main(["evaluate", "--run", str(run), "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    report, again = (json.loads(path.read_text()) for path in (run / "report.json", output))
    for part in ("clean", "worst_case", "risks"):
        assert again[part] == report[part]
    for attack, same in zip(report["attacks"], again["attacks"], strict=True):
        assert attack.keys() == same.keys()
        assert all(same[key] == attack[key] for key in attack if key != "seconds")
        assert attack["name"] in printed
        assert f"{100 * attack['accuracy']:.1f}" in printed
    assert files_of(run) == before


def test_evaluate_takes_attacks_by_name_and_strength(finished, tmp_path):
    _, run = finished
    output = tmp_path / "chosen.json"
    arguments = ["--attacks", "pgd,fgsm@0", "--limit", "7", "--output", str(output)]
    assert cli.main(["evaluate", "--run", str(run), *arguments]) == 0
    made = json.loads(output.read_text())
    assert [attack["settings"]["epsilon"] for attack in made["attacks"]] == [0.1, 0.0]
    assert made["attacks"][0]["settings"]["num_steps"] == 3  # as the config sets it
    assert made["attacks"][1]["accuracy"] == made["clean"]["accuracy"]
    assert made["clean"]["n"] == 7


def test_quiet_commands_print_only_results(run_copy, tmp_path, capsys):
    run, models = run_copy.folder, str(tmp_path / "models")
    settings = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**settings, "export": models}))
    config = write_config(tmp_path, tiny(export=models))
    (run / "report.json").unlink()
    train = ["train", "--config", str(config), "--run-dir", str(run), "--resume", "--quiet"]
    assert cli.main(train) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "tiny"
    assert any(line.startswith("worst case") for line in lines)
    assert [line.split()[0] for line in lines[-4:]] == ["SavedModel", "TFLite", "report", "total"]
    assert lines[-1].endswith("in this session")
    assert cli.main(["export", "--run", str(run), "--quiet"]) == 0
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()] == ["SavedModel", "TFLite"]
    assert printed.err == ""


def test_export_publishes_the_next_version_and_touches_none(run_copy, tmp_path, capsys, rejected):
    config, run = run_copy
    settings = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**settings, "export": str(tmp_path / "models")}))
    shutil.copytree(config.parent / "exported", tmp_path / "models")
    folder = tmp_path / "models" / "tiny"
    before = files_of(folder)
    assert cli.main(["export", "--run", str(run)]) == 0
    assert "SavedModel" in capsys.readouterr().out
    after = files_of(folder)
    assert {path: after[path] for path in before} == before
    assert (folder / "2" / "saved_model.pb").is_file()
    assert "is never changed" in rejected("export", "--run", run, "--version", 1)
    assert files_of(folder) == after


def test_evaluate_takes_the_exported_model_and_agrees_with_its_run(finished, tmp_path):
    config, run = finished
    exported = Path(json.loads(config.read_text())["export"]) / "tiny" / "1"
    output = tmp_path / "foreign.json"
    arguments = ["--model", str(exported), "--config", str(config), "--output", str(output)]
    assert cli.main(["evaluate", *arguments]) == 0
    report, again = (json.loads(path.read_text()) for path in (run / "report.json", output))
    assert again["clean"] == report["clean"]
    assert again["worst_case"]["accuracy"] == report["worst_case"]["accuracy"]


def test_evaluate_looks_for_gradient_masking_where_it_is_asked_to(finished, tmp_path, capsys):
    _, run = finished
    output = tmp_path / "again.json"
    arguments = ["--run", str(run), "--limit", "60", "--attacks", "fgsm", "--output", str(output)]
    # The tiny config wants none.
    assert cli.main(["evaluate", *arguments]) == 0
    assert "masking" not in capsys.readouterr().out
    assert "masking" not in json.loads(output.read_text())
    assert cli.main(["evaluate", *arguments, "--masking", "50"]) == 0
    assert "Gradient masking, linf eps 0.1: " in capsys.readouterr().out
    assert json.loads(output.read_text())["masking"]["n"] == 50


def test_evaluate_asks_a_tflite_file_and_refuses_what_it_cannot_do(
    finished, tmp_path, capsys, rejected
):
    config, run = finished
    exported = Path(json.loads(config.read_text())["export"]) / "tiny" / "tflite" / "1"
    output = tmp_path / "file.json"
    given = ["--model", str(exported / "model_float32.tflite"), "--config", str(config)]
    line = rejected("evaluate", *given)
    assert "fgsm, pgd need gradients, and a TFLite file shows none" in line
    # What the line says to give, works.
    suggested = line.rpartition("give --attacks ")[2].split(",")
    assert "square@0.1" in suggested
    attacks = suggested[:2]
    settings = ["--attacks", ",".join(attacks), "--limit", "4", "--output", str(output)]
    assert cli.main(["evaluate", *given, *settings]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "External model: TFLite file that outputs probabilities" in printed
    report, of_run = (json.loads(path.read_text()) for path in (output, run / "report.json"))
    assert report["victim"]["kind"] == "TFLite file"
    assert not report["victim"]["gradients"]
    assert "square" in report["victim"]["attacks"]
    assert "victim" not in of_run
    assert report["worst_case"]["attacks"] == attacks


def test_evaluate_aims_at_a_class(finished, tmp_path, capsys):
    _, run = finished
    output = tmp_path / "targeted.json"
    arguments = ["--run", str(run), "--attacks", "pgd@0.5,ddn@1", "--output", str(output)]
    assert cli.main(["evaluate", *arguments, "--target", "3"]) == 0
    # A row is name, settings, numbers; a continuation line has only settings.
    cells = [re.split(r"\s{2,}", line.strip()) for line in capsys.readouterr().out.splitlines()]
    settings = " ".join(row[1] if len(row) > 1 else row[0] for row in cells)
    made = json.loads(output.read_text())
    for attack in made["attacks"]:
        assert attack["settings"]["target"] == 3
        assert 0 <= attack["target_reached"] <= 1
    assert settings.count("target 3") == 2
    assert "median distance" in settings
    assert ["distance" in attack for attack in made["attacks"]] == [False, True]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--masking", "-1"], "--masking: got -1; allowed: a whole number of at least 0"),
        (["--target", "nearest"], "--target: got 'nearest'; allowed: random, next, least_likely"),
        (["--target", "10"], "target: got 10; allowed: one of 10 classes"),
        (["--attacks", "square"], "--attacks square: epsilon: missing"),
        (["--attacks", "square"], "give square@0.1, for example"),
    ],
)
def test_evaluate_says_which_options_are_wrong(finished, rejected, options, words):
    assert words in rejected("evaluate", "--run", finished[1], "--limit", 2, *options)


def test_a_server_that_is_not_there_is_named(finished, rejected):
    config, _ = finished
    address = "http://127.0.0.1:9/v1/models/tiny"
    line = rejected("evaluate", "--model", address, "--config", config)
    assert "can't be reached" in line
    assert address in line


def test_info_describes_a_config_and_its_cost_and_writes_nothing(tmp_path, capsys, monkeypatch):
    config = write_config(tmp_path)
    monkeypatch.chdir(tmp_path)
    with terminal(80) as screen:
        assert cli.main(["info", str(config), "--set", "neighborhood.epsilon=8/255"]) == 0
        assert "timing a step: 00:00" in screen.read()
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(lines) == [
        "config", "dataset", "memory", "type", "order", "range", "distance", "objective", "model",
        "processor", "batch", "step", "training", "time",
    ]  # fmt: skip
    assert lines["range"] == "||r||_inf <= 8/255 (pixel values in [0, 1])"
    assert lines["distance"] == f"dist(T(x), x) = {lines['range']}"
    assert lines["batch"].startswith("8 labeled + 8 unlabeled")
    assert lines["training"].startswith("6 steps")
    assert lines["model"].startswith("small_cnn, ")
    assert cli.main(["info", str(config), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["training"]["steps"] == 6
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.json"]


# Bad input: exit code 2, one clear line, nothing changed.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("data.dataset=digitz", ["data.dataset", "digitz", "did you mean 'digits'"]),
        ("data.labeled=5", ["data.labeled", "5", "at least 10"]),
        ("data.labeled=1290", ["data", "1320", "1297"]),
        ("neighborhood.epsilon=-1", ["neighborhood.epsilon", "-1", "0 to 1"]),
        ("neighborhood.epsilon=8/0", ["neighborhood.epsilon", "8/0", "0 to 1"]),
        ("evaluation.attacks=[]", ["evaluation.attacks"]),
        ("training.labeled_per_batch=null", ["training.batch_size", "16", "at least"]),
        ("training.step=3", ["training", "step", "did you mean 'steps'"]),
        ("training", ["--set", "key.path=value"]),
        ("model.mean=[0,0]", ["model.mean", "2 values", "1"]),
        ("data.dataset.size=8", ["model", "small_cnn", "8"]),
    ],
)
def test_bad_settings_are_refused_before_the_run_folder_is_made(tmp_path, rejected, change, words):
    config = write_config(tmp_path)
    line = rejected("train", "--config", config, "--set", change, "--run-dir", tmp_path / "run")
    for word in words:
        assert word in line
    assert not (tmp_path / "run").exists()


def test_first_images_that_lack_a_class_are_refused_before_the_run_folder_is_made(
    tmp_path, rejected
):
    config = write_config(tmp_path, tiny(data__selection="first", data__labeled=10))
    line = rejected("train", "--config", config, "--run-dir", tmp_path / "run")
    assert "data.labeled" in line
    assert "none of class" in line
    assert not (tmp_path / "run").exists()


def test_configs_that_cannot_be_read_are_refused(tmp_path, rejected):
    line = rejected("train", "--config", "digits_pixle.json")
    assert "did you mean 'digits_pixel.json'" in line
    broken = tmp_path / "broken.json"
    broken.write_text('{"name": "x",')
    assert "broken.json" in rejected("train", "--config", broken)
    config = write_config(tmp_path)
    line = rejected("train", "--config", config, "--variant", "smoke")
    assert "--variant" in line
    assert "smoke" in line


def test_every_problem_has_its_line(tmp_path, capsys):
    config = write_config(tmp_path)
    changes = ["--set", "data.labeled=0", "--set", "seed=-1", "--set", "neighborhood.epsilon=7"]
    assert cli.main(["train", "--config", str(config), *changes]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 3
    assert all(line.startswith("error: ") for line in lines)


@pytest.mark.parametrize("inside", ["", "below/it"])
def test_a_file_where_the_run_folder_should_be(tmp_path, rejected, inside):
    config = write_config(tmp_path)
    (tmp_path / "occupied").write_text("mine")
    line = rejected("train", "--config", config, "--run-dir", tmp_path / "occupied" / inside)
    assert "occupied" in line
    assert "--run-dir" in line
    assert (tmp_path / "occupied").read_text() == "mine"


def test_a_folder_that_is_no_run_is_left_alone(tmp_path, rejected):
    config = write_config(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    assert "photos" in rejected("train", "--config", config, "--run-dir", tmp_path / "photos")
    assert files_of(tmp_path / "photos") == {Path("cat.jpg"): b"cat"}


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_the_run_of_another_config_is_left_alone(run_copy, rejected, resume):
    config, run = run_copy
    before = files_of(run)
    line = rejected("train", "--config", config, "--run-dir", run, "--set", "seed=1", *resume)
    assert "another config" in line
    assert "seed" in line
    assert files_of(run) == before


def test_a_finished_run_is_not_trained_again(run_copy, rejected):
    config, run = run_copy
    before = files_of(run)
    assert "finished" in rejected("train", "--config", config, "--run-dir", run)
    assert files_of(run) == before


def test_an_unfinished_run_wants_resume(run_copy, rejected):
    config, run = run_copy
    (run / "report.json").unlink()
    before = files_of(run)
    assert "--resume" in rejected("train", "--config", config, "--run-dir", run)
    assert files_of(run) == before


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    "damage",
    [
        lambda run: cut(run / "split.json"),
        lambda run: (run / "split.json").unlink(),
        lambda run: (run / "split.json").write_text("[]"),
        lambda run: (run / "split.json").write_text(
            (run / "split.json").read_text().replace('"validation": [', '"validation": [99999, ')
        ),
    ],
    ids=["truncated", "missing", "a list", "beyond the dataset"],
)
def test_a_damaged_split_is_named(run_copy, rejected, damage):
    _, run = run_copy
    damage(run)
    assert "split.json" in rejected("export", "--run", run)


def test_a_truncated_split_stops_resume(run_copy, rejected):
    config, run = run_copy
    forget_the_last_step(run)
    cut(run / "split.json")
    line = rejected("train", "--config", config, "--run-dir", run, "--resume")
    assert "split.json" in line


def forget_the_last_step(run):
    """Makes a finished run one that was interrupted after step 3."""
    (run / "report.json").unlink()
    for file in (run / "checkpoints").glob("state-6.*"):
        file.unlink()


def test_a_checkpoint_of_another_model_stops_resume(run_copy, tmp_path, rejected):
    config, run = run_copy
    shutil.rmtree(run / "checkpoints")
    other = load_config(str(config), overrides=["model.width=3"])
    info = other.data.dataset.open().info
    model = build_model(other, info, make_plan(other, info))
    checkpoints = Checkpoints(run / "checkpoints", model)
    checkpoints.set_model(model)
    (run / "checkpoints").mkdir()
    checkpoints.on_epoch_end(0, {"step": 0, "val_robust_accuracy": 0.5})
    (run / "report.json").unlink()  # as if it had not finished
    line = rejected("train", "--config", config, "--run-dir", run, "--resume")
    assert "another model" in line
    assert "best.weights.h5" in rejected("evaluate", "--run", run)


def test_a_truncated_checkpoint_stops_resume(run_copy, rejected):
    config, run = run_copy
    for file in (run / "checkpoints").glob("state-*.data*"):
        cut(file)
    (run / "report.json").unlink()  # as if it had not finished
    line = rejected("train", "--config", config, "--run-dir", run, "--resume")
    assert "damaged" in line
    cut(run / "checkpoints" / "best.weights.h5")
    assert "best.weights.h5" in rejected("evaluate", "--run", run)


def test_evaluate_says_what_is_wrong(finished, tmp_path, rejected):
    config, run = finished
    assert "no config.json" in rejected("evaluate", "--run", tmp_path / "nothing")
    assert "did you mean 'pgd'" in rejected("evaluate", "--run", run, "--attacks", "pdg")
    assert "strong" in rejected("evaluate", "--run", run, "--attacks", "pgd@strong")
    assert "--limit" in rejected("evaluate", "--run", run, "--limit", 0)
    assert "--config" in rejected("evaluate", "--model", tmp_path)
    assert "--model" in rejected("evaluate")
    line = rejected("evaluate", "--model", tmp_path / "no.keras", "--config", config)
    assert "no.keras" in line
    assert "--output" in rejected(
        "evaluate", "--run", run, "--limit", 1, "--output", tmp_path / "none" / "report.json"
    )


def test_a_run_without_a_classifier_is_named(run_copy, rejected):
    _, run = run_copy
    shutil.rmtree(run / "checkpoints")
    assert "--resume" in rejected("evaluate", "--run", run)
    assert "--resume" in rejected("export", "--run", run)


def test_a_loss_that_is_not_finite_stops_with_the_reason(tmp_path, capsys):
    config = write_config(tmp_path)
    arguments = ["--run-dir", str(tmp_path / "run"), "--set", "training.learning_rate=1e9"]
    assert cli.main(["train", "--config", str(config), *arguments]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert "learning_rate" in line
    assert "nan" in line.lower() or "inf" in line.lower()


@pytest.mark.parametrize("command", [["train"], ["info"], ["data", "check"]])
def test_the_config_is_explained_where_it_is_first_listed(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([*command, "--help"])
    text = capsys.readouterr().out
    assert text.index("a JSON file, or a name in configs/") < text.index("the same")


def test_the_help_of_all_commands_begins_in_one_column(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    shown = [line for line in lines if line.split()[:1] and line.split()[0] in cli.COMMANDS]
    assert len(shown) == sum(" " not in name for name in cli.COMMANDS)
    assert {re.match(r" +\S+ +", line).end() for line in shown} == {len("  -V, --version  ")}


def test_the_help_of_predict_names_every_format(capsys):
    with pytest.raises(SystemExit):
        cli.main(["predict", "--help"])
    text = capsys.readouterr().out
    assert [name for name in FORMATS if name not in text] == []
