"""`python -m keras_srt.device.train`: training, resuming, bad input."""

import json
import signal

import numpy as np
import pytest
from helpers import python
from trainable_models import INSTALLED, NAMES

from keras_srt.core.images import decode_image
from keras_srt.device import train
from keras_srt.device.__main__ import main as classify
from keras_srt.device.trainer import Trainer
from keras_srt.device.weights import load_weights, restore


def run(place, weights, *options, steps=4, **replaced):
    given = {"model": place / "model_train.tflite", "labeled": place / "labeled"}
    given |= {"unlabeled": place / "unlabeled", "steps": steps, "output": weights} | replaced
    pairs = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    return train.main([*pairs, *map(str, options)])


def read(place, path):
    return load_weights(path, Trainer(place / "model_train.tflite").checksum)


def test_resumed_training_equals_uninterrupted_training(place, tmp_path, capsys):
    assert run(place, tmp_path / "whole.npz", steps=5) == 0
    assert "weights after 5 steps" in capsys.readouterr().out
    assert run(place, tmp_path / "parts.npz", "--resume", steps=2) == 0
    assert run(place, tmp_path / "parts.npz", "--resume", steps=5) == 0
    progress = capsys.readouterr().err
    assert "step 5/5" in progress
    assert "left" in progress
    whole, parts = (read(place, tmp_path / name) for name in ("whole.npz", "parts.npz"))
    assert (whole.step, parts.step) == (5, 5)
    start = Trainer(place / "model_train.tflite").get_weights()
    assert set(whole.state) == set(start)
    for name, values in whole.state.items():
        np.testing.assert_array_equal(parts.state[name], values)
        assert np.abs(values - start[name]).max() > 0
    # Nothing is left to do.
    assert run(place, tmp_path / "parts.npz", "--resume", steps=5) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts.npz", "whole.npz"]


def test_trained_weights_classify(place, tmp_path, capsys):
    model, weights = place / "model_train.tflite", tmp_path / "learned.npz"
    picture = next((place / "unlabeled" / "deep").iterdir())
    assert run(place, weights, steps=3) == 0
    capsys.readouterr()

    given = [str(picture), "--model", str(model), "--weights", str(weights)]
    assert classify([*given, "--json", "--top", str(len(NAMES))]) == 0
    top = json.loads(capsys.readouterr().out)["top"]
    learned = {entry["class_name"]: entry["score"] for entry in top}
    trainer = Trainer(model)
    image = decode_image(picture.read_bytes(), trainer.shape)
    before = trainer.classify(image)
    restore(trainer, weights)
    after = trainer.classify(image)
    assert [learned[name] for name in NAMES] == pytest.approx(after, abs=1e-6)
    assert np.abs(after - before).max() > 1e-4
    weights.write_bytes(b"no weights")
    assert classify(given) == 2
    assert "learned.npz" in capsys.readouterr().err


def test_initial_weights_and_seed(place, tmp_path):
    assert run(place, tmp_path / "one.npz", steps=1) == 0
    assert run(place, tmp_path / "two.npz", "--weights", tmp_path / "one.npz", steps=1) == 0
    assert run(place, tmp_path / "other.npz", "--seed", 1, steps=1) == 0
    one, two, other = (read(place, tmp_path / f"{n}.npz") for n in ("one", "two", "other"))
    assert two.step == 1
    assert np.abs(two.state["layer_08_kernel"] - one.state["layer_08_kernel"]).max() > 0
    assert np.abs(other.state["layer_08_kernel"] - one.state["layer_08_kernel"]).max() > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_saves_after_the_step(place, tmp_path, capsys, monkeypatch, number):
    step = Trainer.step
    calls = []

    def interrupted(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(number)
        return step(self, *args, **kwargs)

    before = signal.getsignal(number)
    monkeypatch.setattr(Trainer, "step", interrupted)
    assert run(place, tmp_path / "weights.npz", steps=100) == 130
    assert "after step 2" in capsys.readouterr().err
    assert read(place, tmp_path / "weights.npz").step == 2
    assert signal.getsignal(number) is before


def test_bad_files_are_skipped_and_reported(place, tmp_path, capsys):
    for name in ("broken.png", "gif.jpg", "empty.png"):
        (place / "unlabeled" / name).write_bytes(b"GIF89a"[: 6 * (name != "empty.png")])
    (place / "unlabeled" / "notes.txt").write_text("no image")
    try:
        assert run(place, tmp_path / "weights.npz", steps=3) == 0
    finally:
        for path in (place / "unlabeled").glob("*.*"):
            path.unlink()
    said = capsys.readouterr().err
    assert "skipped 3 files" in said
    for name in ("broken.png", "gif.jpg", "empty.png"):
        assert said.count(name) == 1
    assert "notes.txt" not in said


def test_a_diverging_loss_ends_the_training(place, tmp_path, capsys):
    code = run(place, tmp_path / "weights.npz", "--learning-rate", "1e30", steps=9)
    assert code == 1
    assert "smaller --learning-rate" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_bad_input_is_one_line(place, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd" / "up").mkdir(parents=True)
    (tmp_path / "there.npz").write_bytes(b"mine")
    (tmp_path / "plain.tflite").write_bytes(b"no model at all")
    output = tmp_path / "weights.npz"
    for options, replaced, reason in (
        ([], {"labeled": tmp_path / "absent"}, "absent: can't be read"),
        ([], {"labeled": tmp_path / "empty"}, "no labeled images"),
        ([], {"labeled": tmp_path / "odd"}, "'up'; allowed: left, middle, right"),
        ([], {"unlabeled": tmp_path / "empty"}, "has no images"),
        ([], {"model": tmp_path / "plain.tflite"}, "is not a TFLite model"),
        ([], {"output": tmp_path / "there.npz"}, "already exists; give --resume"),
        (["--resume"], {"output": tmp_path / "there.npz"}, "is damaged"),
        (["--weights", tmp_path / "none.npz"], {}, "can't be read"),
        ([], {"output": tmp_path / "no" / "such.npz"}, "folder doesn't exist"),
    ):
        assert run(place, output, *options, **replaced) == 2
        said = capsys.readouterr().err
        assert reason in said
        assert said.startswith("error: ")
        assert said.count("\n") == 1
    assert (tmp_path / "there.npz").read_bytes() == b"mine"
    assert not output.exists()


@pytest.mark.parametrize(
    "options", [["--steps", "0"], ["--epsilon", "nan"], ["--momentum", "-1"], ["--seed", "x"]]
)
def test_options_are_validated(place, tmp_path, capsys, options):
    with pytest.raises(SystemExit) as end:
        run(place, tmp_path / "weights.npz", *options)
    assert end.value.code == 2
    assert f"got '{options[1]}'; allowed" in capsys.readouterr().err


def test_options_that_the_model_has_no_use_for_are_refused(place, tmp_path, capsys):
    assert run(place, tmp_path / "weights.npz", "--max-rotation", 20) == 2
    assert "--max-rotation: is no setting of the neighborhood linf" in capsys.readouterr().err
    given = ["--model", place / "model_train.tflite", "--labeled", place / "labeled"]
    given += ["--steps", 1, "--output", tmp_path / "weights.npz"]
    assert train.main(list(map(str, given))) == 2
    assert "--unlabeled: missing" in capsys.readouterr().err


class Model:
    """The settings of a model without the file."""

    shape = (4, 6, 2)

    def __init__(self, **settings):
        self.settings = {"labeled": 3, "unlabeled": 0, "random_start": True} | settings


class Pictures:
    def batch(self, step, count):
        return np.zeros((count, 4, 6, 2), np.float32), np.arange(count)


def test_the_noise_of_l2_is_uniform_in_the_unit_ball():
    model = Model(stages=["l2"], labeled=4000)
    batches = train._Batches(model, Pictures(), range(4000), None, 7)
    batch = batches.at(5)
    assert set(batch) == {"labeled", "labels", "noise"}
    length = np.linalg.norm(batch["noise"].reshape(4000, -1), axis=1)
    assert length.max() <= 1 + 1e-6
    # The share of the volume within r is r^48.
    assert np.mean(length**48) == pytest.approx(0.5, abs=0.02)
    np.testing.assert_array_equal(batch["noise"], batches.at(5)["noise"])
    assert not np.array_equal(batch["noise"], batches.at(6)["noise"])


def test_the_draws_of_a_spatial_stage_are_uniform():
    model = Model(stages=["spatial", "linf"], num_samples=500, unlabeled=2, random_start=False)
    batch = train._Batches(model, Pictures(), range(3), Pictures(), 7).at(0)
    assert batch["draws"].shape == (500, 5, 3)
    assert np.abs(batch["draws"]).max() <= 1
    np.testing.assert_allclose(batch["draws"].std(axis=(0, 1)), 3**-0.5, atol=0.02)
    assert not batch["noise"].any()


@pytest.mark.skipif("ai-edge-litert" not in INSTALLED, reason="needs ai-edge-litert")
def test_training_does_not_import_tensorflow(place, tmp_path):
    code = (
        "import sys; from keras_srt.device import train\n"
        "code = train.main(sys.argv[1:])\n"
        "print(code, sorted({'tensorflow', 'keras', 'pydantic'} & set(sys.modules)))"
    )
    process = python(
        "-c", code, "--model", place / "model_train.tflite", "--labeled", place / "labeled",
        "--unlabeled", place / "unlabeled", "--steps", 2, "--output", tmp_path / "weights.npz",
    )  # fmt: skip
    assert process.stdout.endswith("0 []\n"), process.stdout + process.stderr
    assert read(place, tmp_path / "weights.npz").step == 2
