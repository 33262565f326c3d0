"""Commands in processes of their own: the first one, Ctrl-C, and a missing dataset."""

import io
import json
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import ROOT, clean_environment, heed_ctrl_c, python, tiny, write_config
from PIL import Image

from keras_srt.core.sample_images import read_samples
from keras_srt.data import Digits
from keras_srt.pipeline.run_folder import RunFolder

NOISE = ("cuDNN", "cuBLAS", "oneDNN", "TFA", "Addons", "TensorRT", "cpu_feature_guard", "Warning")


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    """What the README says first, typed by a user: the process and the folder it worked in."""
    folder = tmp_path_factory.mktemp("typed")
    command = [ROOT / "train.py", "--config", "digits_pixel.json", "--variant", "smoke"]
    command += ["--run-dir", folder / "run", "--set", f"export={folder / 'exported'}"]
    command += ["--set", "evaluation.deployment=50", "--set", "evaluation.masking=50"]
    return python(*command), folder


def test_the_first_command_works_and_is_quiet(typed):
    process, folder = typed
    assert process.returncode == 0, process.stderr
    for word in NOISE:
        assert word not in process.stdout + process.stderr
    assert "Traceback" not in process.stderr
    for file in (
        "config.json",
        "environment.json",
        "split.json",
        "history.csv",
        "report.json",
        "report.html",
        "checkpoints/best.weights.h5",
        "masking.png",
    ):
        assert (folder / "run" / file).stat().st_size > 0
    assert any((folder / "run" / "tensorboard").rglob("events.out.*"))
    assert (folder / "exported" / "model.config").is_file()
    (exported,) = (path for path in (folder / "exported").iterdir() if path.is_dir())
    assert (exported / "1" / "saved_model.pb").is_file()
    assert (exported / "tflite" / "1" / "model_float32.tflite").is_file()
    assert (exported / "tflite" / "1" / "labels.txt").read_text().split() == list("0123456789")
    samples = read_samples(exported / "1")
    assert len({sample.name for sample in samples}) == 3
    images, labels = Digits().open().load_test()
    for name, content in samples:
        of_the_test_part = images[labels == int(name), ..., 0]
        assert (of_the_test_part == np.asarray(Image.open(io.BytesIO(content)))).all((1, 2)).any()


def test_the_report_says_how_each_published_file_does(typed):
    process, folder = typed
    report = json.loads((folder / "run" / "report.json").read_text())
    deployment = report["deployment"]
    assert (deployment["version"], deployment["n"]) == (1, 50)
    keras, savedmodel, *files = deployment["models"]
    assert [file["name"] for file in files] == ["float32", "float16", "dynamic", "int8"]
    assert keras["clean"] == savedmodel["clean"] == report["clean"]
    for model in (keras, savedmodel):
        for of_model, of_run in zip(model["attacks"], report["attacks"], strict=True):
            assert of_model == {key: of_run[key] for key in of_model}
    for file in (savedmodel, *files):
        assert 0 < file["latency_ms"]["median"] <= file["latency_ms"]["p99"]
        assert file["bytes"] > 1000
        assert file["agreement"]["same_class"] > 0.5
    assert "Exported version 1: 50 test images" in process.stdout
    assert "XNNPACK" not in process.stderr
    assert "<h2>Deployment</h2>" in (folder / "run" / "report.html").read_text()


def test_a_run_looks_for_gradient_masking(typed):
    process, folder = typed
    masking = json.loads((folder / "run" / "report.json").read_text())["masking"]
    assert (masking["n"], masking["chance"]) == (50, 0.1)
    (threat,) = masking["threats"]
    assert (threat["norm"], threat["epsilon"], len(threat["checks"])) == ("linf", 0.1, 6)
    assert "Gradient masking, linf eps 0.1: " in process.stdout
    page = (folder / "run" / "report.html").read_text("utf-8")
    assert "<h2>Gradient masking</h2>" in page


def test_a_dataset_that_is_not_there_names_both_ways_out(tmp_path):
    (tmp_path / "empty").mkdir()
    config = write_config(tmp_path, tiny(data__dataset="mnist"))
    # Nothing listens on port 9, so that the test never downloads anything.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"))
    nowhere = {**dict.fromkeys(nowhere, "http://127.0.0.1:9"), "no_proxy": "", "NO_PROXY": ""}
    began = time.monotonic()
    process = python(
        ROOT / "train.py", "--config", config, "--data-dir", tmp_path / "empty",
        "--run-dir", tmp_path / "run", timeout=90, **nowhere,
    )  # fmt: skip
    assert time.monotonic() - began < 60
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stderr
    (line,) = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    for word in ("mnist", str(tmp_path / "empty"), "--data-dir", "network"):
        assert word in line
    assert not (tmp_path / "run").exists()


def test_ctrl_c_saves_the_state_and_says_how_to_go_on(tmp_path):
    config = write_config(tmp_path, tiny(training__steps=300, training__interval=20))
    command = [sys.executable, "train.py", "--config", config, "--run-dir", tmp_path / "a run"]
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,
    )
    try:
        for line in process.stdout:
            if "validation:" in line:
                break
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert not (tmp_path / "a run" / "report.json").exists()
    printed = shlex.split(error.strip().splitlines()[-1])
    assert printed[0] == "python"
    assert printed[-1] == "--resume"
    resumed = python(*printed[1:])
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming at step" in resumed.stdout
    assert (tmp_path / "a run" / "report.json").is_file()
    history = RunFolder(tmp_path / "a run").read_history()
    assert [int(row["step"]) for row in history] == list(range(20, 301, 20))


def test_warnings_of_other_packages_end_no_command():
    """Keras calls `random.randint` with a float, of which Python 3.11 warns."""
    command = [sys.executable, "-W", "error", "-m", "keras_srt", "info"]
    command += ["--config", "digits_pixel.json", "--variant", "smoke"]
    process = subprocess.run(
        command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert "training  20 steps" in process.stdout
