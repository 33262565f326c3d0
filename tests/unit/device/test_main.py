"""`python -m keras_srt.device`."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from device_models import LABELS, NAMES, expected_of
from helpers import ROOT, python

from keras_srt.device.__main__ import main
from keras_srt.device.classify import INTERPRETERS, installed_interpreter

without_tensorflow = pytest.mark.skipif(
    installed_interpreter() == "tensorflow", reason="no interpreter without TensorFlow here"
)


def test_json_output(classifier, model, pictures, capsys):
    assert main([*map(str, pictures), "--model", str(model), "--json", "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, path in zip(lines, pictures, strict=True):
        answer, expected = json.loads(line), expected_of(classifier, path)
        best = int(expected.argmax())
        assert list(answer) == ["file", "class_id", "class_name", "score", "top"]
        assert (answer["file"], answer["class_id"]) == (str(path), best)
        assert answer["class_name"] == LABELS[best]
        assert answer["score"] == pytest.approx(expected[best], abs=1e-5)
        ranking = np.argsort(-expected)[:2]
        assert [entry["class_name"] for entry in answer["top"]] == [LABELS[i] for i in ranking]


def test_text_output(classifier, model, pictures, capsys):
    assert main([str(pictures[0]), "--model", str(model), "--top", "1"]) == 0
    expected = expected_of(classifier, pictures[0])
    name, score = LABELS[expected.argmax()], 100 * expected.max()
    assert capsys.readouterr().out == f"{pictures[0]}  {name} {score:.1f}%\n"


def test_bad_image_does_not_stop_the_others(model, pictures, tmp_path, capsys):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"GIF89a")
    arguments = [str(pictures[0]), str(bad), str(tmp_path / "none.png"), str(pictures[1])]
    assert main([*arguments, "--model", str(model)]) == 1
    output = capsys.readouterr()
    assert [line.split()[0] for line in output.out.splitlines()] == [
        str(pictures[0]),
        str(pictures[1]),
    ]
    first, second = output.err.splitlines()
    assert first.startswith(f"error: {bad}: is neither PNG nor JPEG")
    assert second == f"error: {tmp_path / 'none.png'}: can't be read (No such file or directory)"
    assert main([*arguments, "--model", str(model), "--json"]) == 1
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["file"] for answer in answers] == arguments
    assert ["error" in answer for answer in answers] == [False, True, True, False]


@pytest.mark.parametrize("arguments", [["--top", "0"], ["--threads", "-1"], ["--top", "two"], []])
def test_bad_options_are_rejected(arguments, capsys):
    images = ["x.png"] if arguments else []
    with pytest.raises(SystemExit) as caught:
        main([*images, "--model", "x.tflite", *arguments])
    assert caught.value.code == 2


@without_tensorflow
def test_command_is_quiet_and_does_not_import_tensorflow(model, pictures):
    code = (
        "import sys; from keras_srt.device.__main__ import main\n"
        f"code = main([{str(pictures[0])!r}, '--model', {str(model)!r}, '--json'])\n"
        "print(code, sorted({'tensorflow', 'keras', 'pydantic'} & set(sys.modules)))"
    )
    process = python("-c", code)
    assert process.stdout.splitlines()[-1] == "0 []", process.stderr
    assert process.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("extra", ["litert", "tflite-runtime"])
def test_device_package_installs_and_classifies_without_tensorflow(
    extra, classifier, pictures, tmp_path
):
    from keras_srt.exporters.tflite import export_tflite

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
