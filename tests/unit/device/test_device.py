"""Recognition on a device: interpreters alone, bad images and bad files, the command."""

import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from helpers import ROOT, python
from PIL import Image

from keras_srt.core.images import BadImage, decode_image
from keras_srt.core.tensorflow import keras
from keras_srt.device import BadModel, Classifier
from keras_srt.device.__main__ import main
from keras_srt.device.classify import INTERPRETERS, installed_interpreter
from keras_srt.device.model_file import add_labels, read_labels

NAMES = ("cat", "Wörter mit Ü", "two\nlines")
LABELS = ["cat", "Wörter mit Ü", "two lines"]
without_tensorflow = pytest.mark.skipif(
    installed_interpreter() == "tensorflow", reason="no interpreter without TensorFlow here"
)


@pytest.fixture(scope="module")
def classifier():
    import tensorflow as tf

    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    x = keras.layers.Flatten()(x)
    made = keras.Model(inputs, keras.layers.Dense(3, kernel_initializer="he_normal")(x))
    noise = np.random.default_rng(0).random((50, 8, 8, 3), np.float32)
    made.layers[-1].bias.assign(-tf.reduce_mean(made(noise), axis=0))
    return made


@pytest.fixture(scope="module")
def model(classifier, tmp_path_factory):
    """A float32 file; tests read it and change nothing."""
    from keras_srt.exporters.tflite import _convert

    path = tmp_path_factory.mktemp("tflite") / "model_float32.tflite"
    path.write_bytes(_convert(classifier, "float32", np.zeros((0, 8, 8, 3))))
    add_labels(path, NAMES)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Three PNG files of other sizes than the model's."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (12 + i, 9, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return sorted(folder.iterdir())


def expected_of(classifier, path):
    image = decode_image(path.read_bytes(), (8, 8, 3))
    logits = np.float64(classifier(image[None], training=False)[0])
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


# The classifier.


@pytest.mark.parametrize("name", INTERPRETERS)
@pytest.mark.parametrize("num_threads", [1, 2])
def test_every_interpreter_answers_as_the_model(classifier, model, pictures, name, num_threads):
    pytest.importorskip(INTERPRETERS[name][0])
    device = Classifier(model, num_threads, name)
    assert device.shape == (8, 8, 3)
    assert device.labels == LABELS
    for path in pictures:
        got = device.classify(decode_image(path.read_bytes(), device.shape))
        assert (got.dtype, got.shape) == (np.float32, (3,))
        np.testing.assert_allclose(got, expected_of(classifier, path), atol=1e-5)


def test_an_answer_stays_after_the_next_question(model):
    device = Classifier(model)
    dark, bright = np.zeros((8, 8, 3), np.float32), np.ones((8, 8, 3), np.float32)
    first = device.classify(dark)
    kept = first.copy()
    assert np.abs(device.classify(bright) - kept).max() > 1e-3
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((8, 8)), r"shape \(8, 8\); allowed: \(8, 8, 3\)"),
        (np.zeros((1, 8, 8, 3)), "shape"),
        (np.zeros((9, 8, 3)), "shape"),
        (np.zeros((0, 8, 3)), "shape"),
        (np.full((8, 8, 3), np.nan), "nan"),
        (np.where(np.arange(192) == 100, np.nan, 0.5).reshape(8, 8, 3), "nan"),
        (np.full((8, 8, 3), np.inf), "inf"),
        (np.full((8, 8, 3), 1.01), "1.01"),
        (np.full((8, 8, 3), -0.01), "-0.01"),
        (np.full((8, 8, 3), 255.0), "255"),
    ],
)
def test_a_bad_image_is_refused_alone(model, image, words):
    device = Classifier(model)
    with pytest.raises(BadImage, match=words):
        device.classify(image)
    assert device.classify(np.zeros((8, 8, 3))).sum() == pytest.approx(1, abs=1e-5)


# Model files.


def damaged(path, kind):
    """The bytes of a file, damaged."""
    content = path.read_bytes()
    return {
        "empty": b"",
        "few bytes": content[:7],
        "cut in the model": content[:500],
        "cut in the labels": content[:-10],
        "a bit in the model": content[:300] + bytes([content[300] ^ 1]) + content[301:],
        "zeros in the model": content[:200] + bytes(200) + content[400:],
        "garbage with the right mark": b"\xff\xff\xff\x7fTFL3" + bytes(range(256)),
        "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "empty",
        "few bytes",
        "cut in the model",
        "cut in the labels",
        "a bit in the model",
        "zeros in the model",
        "garbage with the right mark",
        "a picture",
    ],
)
def test_a_damaged_file_never_reaches_the_interpreter(model, tmp_path, kind, capsys):
    path = tmp_path / "damaged.tflite"
    path.write_bytes(damaged(model, kind))
    with pytest.raises(BadModel, match=r"damaged\.tflite: ") as caught:
        read_labels(path)
    assert "\n" not in str(caught.value)
    assert main(["x.png", "--model", str(path)]) == 2
    assert capsys.readouterr().err == f"error: {caught.value}\n"


def test_every_damaged_byte_of_a_model_is_noticed(model, tmp_path):
    content = model.read_bytes()
    end = content.rindex(b"PK\x03\x04")
    path = tmp_path / "damaged.tflite"
    for position in range(0, end, 97):
        changed = bytearray(content)
        changed[position] ^= 0x80
        path.write_bytes(changed)
        with pytest.raises(BadModel):
            read_labels(path)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(BadModel, match="No such file"):
        Classifier(tmp_path / "nothing.tflite")
    with pytest.raises(BadModel, match="directory"):
        Classifier(tmp_path)


def test_a_model_without_labels_or_with_others_is_refused(model, tmp_path):
    content = model.read_bytes()
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(content[: content.rindex(b"PK\x03\x04")])
    with pytest.raises(BadModel, match=r"no labels\.txt inside"):
        Classifier(bare)
    add_labels(bare, ["only", "two"])
    with pytest.raises(BadModel, match=r"\(1, 3\).*\[1, 2\]"):
        Classifier(bare)


def test_labels_of_another_tool_have_no_checksum(model, tmp_path):
    content = model.read_bytes()
    path = tmp_path / "other.tflite"
    path.write_bytes(content[: content.rindex(b"PK\x03\x04")])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "a\nb\nc\n")
    assert Classifier(path).labels == ["a", "b", "c"]


def test_without_an_interpreter_it_says_what_to_install(model, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["x.png", "--model", str(model)]) == 2
    assert "pip install ai-edge-litert" in capsys.readouterr().err


# The command.


def test_json_has_an_object_for_each_image(classifier, model, pictures, capsys):
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


def test_a_line_has_the_likeliest_classes(classifier, model, pictures, capsys):
    assert main([str(pictures[0]), "--model", str(model), "--top", "1"]) == 0
    expected = expected_of(classifier, pictures[0])
    name, score = LABELS[expected.argmax()], 100 * expected.max()
    assert capsys.readouterr().out == f"{pictures[0]}  {name} {score:.1f}%\n"


def test_a_bad_image_does_not_keep_the_others_from_an_answer(model, pictures, tmp_path, capsys):
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
def test_bad_options_are_refused(arguments, capsys):
    images = ["x.png"] if arguments else []
    with pytest.raises(SystemExit) as caught:
        main([*images, "--model", "x.tflite", *arguments])
    assert caught.value.code == 2


@without_tensorflow
def test_the_command_is_quiet_and_takes_no_tensorflow_along(model, pictures):
    code = (
        "import sys; from keras_srt.device.__main__ import main\n"
        f"code = main([{str(pictures[0])!r}, '--model', {str(model)!r}, '--json'])\n"
        "print(code, sorted({'tensorflow', 'keras', 'pydantic'} & set(sys.modules)))"
    )
    process = python("-c", code)
    assert process.stdout.splitlines()[-1] == "0 []", process.stderr
    assert process.stderr == ""


# Installation.


@pytest.mark.slow
@pytest.mark.parametrize("extra", ["litert", "tflite-runtime"])
def test_it_installs_and_answers_without_tensorflow(extra, classifier, pictures, tmp_path):
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


def test_tensorflow_as_the_interpreter_is_quiet_too():
    code = "from keras_srt.device.classify import load_interpreter; load_interpreter('tensorflow')"
    process = python("-c", code)
    assert (process.returncode, process.stderr) == (0, "")
