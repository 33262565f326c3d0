"""`model_train.tflite` of real models, in every installed interpreter, and by command line."""

import dataclasses

import pytest
from helpers import python, write_config
from trainable_models import (
    INSTALLED,
    SETTINGS,
    VARIANTS,
    assert_only_builtin_operations,
    assert_steps_agree,
    keras_steps,
    made_file,
    tiny_classifier,
    tiny_file,
)

from keras_srt.core.images import BadImage
from keras_srt.device.trainer import Trainer
from keras_srt.exporters.trainable_tflite.weights import assign_weights
from keras_srt.models import ResNet, ResNet9, SmallCNN, WideResNet


@pytest.mark.parametrize("interpreter", INSTALLED)
def test_steps_agree_with_keras(interpreter, tmp_path):
    path = tmp_path / "model_train.tflite"
    path.write_bytes(tiny_file())
    assert_steps_agree(path, interpreter, keras_steps(tiny_classifier(), SETTINGS, 8), 1e-4)


@pytest.mark.parametrize("name", VARIANTS)
def test_steps_of_every_neighborhood_and_of_rt_agree_with_keras(name, tmp_path):
    settings = dataclasses.replace(SETTINGS, **VARIANTS[name])
    path = tmp_path / "model_train.tflite"
    path.write_bytes(made_file(tiny_classifier(), settings))
    assert_only_builtin_operations(path.read_bytes())
    expected = keras_steps(tiny_classifier(), settings, 6)
    for interpreter in INSTALLED:
        assert_steps_agree(path, interpreter, expected, 1e-4)
    inputs, trainer = expected.inputs[0], Trainer(path)
    for key in ("noise", "draws"):
        if key in inputs:
            with pytest.raises(BadImage, match=key):
                trainer.step(**(inputs | {key: inputs[key] + 2}))
            with pytest.raises(TypeError, match=f"this model takes .*{key}"):
                trainer.step(**(inputs | {key: None}))


@pytest.mark.parametrize(
    "build",
    [
        lambda: SmallCNN(dropout=0.0).build((28, 28, 1), 10),
        lambda: ResNet(filters=(4, 4, 8), blocks=1).build((28, 28, 1), 10),
        lambda: WideResNet(depth=10, widening=1).build((16, 16, 3), 10),
        lambda: ResNet9(width=4).build((16, 16, 3), 10),
    ],
    ids=["small_cnn", "resnet", "wide_resnet", "resnet9"],
)
def test_steps_of_real_models_agree_with_keras(build, tmp_path):
    settings = dataclasses.replace(SETTINGS, labeled=4, unlabeled=8, num_steps=3)
    path = tmp_path / "model_train.tflite"
    path.write_bytes(made_file(build(), settings, [str(digit) for digit in range(10)]))
    classifier = build()
    assign_weights(classifier, Trainer(path).get_weights())
    expected = keras_steps(classifier, settings, 6)
    for interpreter in INSTALLED:
        # Some of the 28,000 signs of a step differ: measured 2e-2.
        assert_steps_agree(path, interpreter, expected, tolerance=5e-2)


def test_export_trainable_by_command_line(tmp_path):
    config = write_config(tmp_path)
    trained = python("train.py", "--config", config, "--run-dir", tmp_path / "run")
    assert trained.returncode == 0, trained.stderr
    exported = python(
        "-m", "keras_srt", "export", "--run", tmp_path / "run", "--trainable",
        "--trainable-batch", 2, 3,
    )  # fmt: skip
    assert (exported.returncode, exported.stderr) == (0, "")
    folder = tmp_path / "exported" / "tiny" / "tflite" / "2"
    trainer = Trainer(folder / "model_train.tflite")
    assert (trainer.settings["labeled"], trainer.settings["unlabeled"]) == (2, 3)
    assert not (folder.parent / "1" / "model_train.tflite").exists()
