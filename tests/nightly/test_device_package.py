"""The device package in an environment of its own."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from device_models import LABELS, NAMES, expected_of, make_classifier, write_pictures
from helpers import ROOT

from keras_srt.device.classify import INTERPRETERS


@pytest.mark.parametrize("extra", ["litert", "tflite-runtime"])
def test_device_package_installs_and_classifies_without_tensorflow(extra, tmp_path):
    from keras_srt.exporters.tflite import export_tflite

    classifier = make_classifier()
    (tmp_path / "pictures").mkdir()
    pictures = write_pictures(tmp_path / "pictures")
    samples = np.random.default_rng(5).random((64, 8, 8, 3), np.float32)
    folder, _ = export_tflite(classifier, NAMES, tmp_path, 1, samples)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL"))}

    def run(*command):
        return subprocess.run(
            list(map(str, command)), capture_output=True, text=True, cwd=tmp_path, env=environment
        )

    assert run(sys.executable, "-m", "venv", tmp_path / "venv").returncode == 0
    there = tmp_path / "venv" / "bin" / "python"
    installed = run(there, "-m", "pip", "install", "--quiet", f"{ROOT / 'device'}[{extra}]")
    assert installed.returncode == 0, installed.stderr
    found = run(
        there, "-c",
        "import importlib.util as u, keras_srt; print(keras_srt.__file__, len(keras_srt.__all__),"
        "[n for n in ('tensorflow', 'ai_edge_litert', 'tflite_runtime') if u.find_spec(n)])",
    ).stdout.split(maxsplit=2)  # fmt: skip
    assert found[0].startswith(str(tmp_path / "venv"))
    assert found[2].strip() == str([INTERPRETERS[extra_to_name(extra)][0].partition(".")[0]])
    tolerance = {"float32": 1e-5, "float16": 1e-2, "dynamic": 0.1, "int8": 0.1}
    for kind, allowed in tolerance.items():
        file = folder / f"model_{kind}.tflite"
        process = run(
            there, "-m", "keras_srt.device", *pictures, "--model", file, "--json", "--top", 3
        )
        assert process.returncode == 0, process.stderr
        assert process.stderr == ""
        for line, path in zip(process.stdout.splitlines(), pictures, strict=True):
            expected = dict(zip(LABELS, expected_of(classifier, path), strict=True))
            got = {entry["class_name"]: entry["score"] for entry in json.loads(line)["top"]}
            assert got == pytest.approx(expected, abs=allowed), kind


def extra_to_name(extra):
    return "ai-edge-litert" if extra == "litert" else extra
