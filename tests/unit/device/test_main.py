"""`python -m keras_srt.device`."""

import json

import numpy as np
import pytest
from device_models import LABELS, expected_of
from helpers import python

from keras_srt.device.__main__ import main
from keras_srt.device.classify import installed_interpreter

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
    bad.write_bytes(b"%PDF-1")
    arguments = [str(pictures[0]), str(bad), str(tmp_path / "none.png"), str(pictures[1])]
    assert main([*arguments, "--model", str(model)]) == 1
    output = capsys.readouterr()
    assert [line.split()[0] for line in output.out.splitlines()] == [
        str(pictures[0]),
        str(pictures[1]),
    ]
    first, second = output.err.splitlines()
    assert first.startswith(f"error: {bad}: is in no supported format")
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


def test_a_trainable_model_without_weights_names_the_option(place, pictures, capsys):
    model = place / "model_train.tflite"
    assert main([str(pictures[0]), "--model", str(model)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {model}: is a model that is trained on a device")
    assert "--weights FILE" in error
