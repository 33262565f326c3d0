"""`model_train.tflite` trains as Keras does."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from trainable_models import (
    INSTALLED,
    NAMES,
    SETTINGS,
    SHAPE,
    TERMS,
    assert_only_builtin_operations,
    assert_steps_agree,
    batches_of,
    keras_steps,
    tiny_classifier,
    tiny_file,
)

from keras_srt.core.errors import UserError
from keras_srt.core.images import BadImage
from keras_srt.device.classify import BadModel
from keras_srt.device.trainer import Trainer, scalars_of
from keras_srt.exporters.trainable_tflite.layers import trainable_clone
from keras_srt.exporters.trainable_tflite.step import SRTStep
from keras_srt.exporters.trainable_tflite.weights import assign_weights
from keras_srt.models import SmallCNN


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp("trainable") / "model_train.tflite"
    file.write_bytes(tiny_file())
    return file


def test_only_builtin_operations(path):
    assert_only_builtin_operations(path.read_bytes())


def test_the_step_before_its_conversion_is_that_of_keras(eager):
    """T1; files of every neighborhood and of RT are made at night."""
    settings = dataclasses.replace(SETTINGS, stages=("linf", "spatial"), num_steps=1, num_samples=1)
    expected = keras_steps(tiny_classifier(), settings, 1)
    step = SRTStep(trainable_clone(tiny_classifier()), settings)
    inputs = {key: tf.constant(x) for key, x in expected.inputs[0].items() if x is not None}
    scalars = {key: tf.constant(getattr(settings, key)) for key in scalars_of(settings.stages)}
    losses = step.train(**inputs, **scalars)
    np.testing.assert_allclose([losses[term] for term in TERMS], expected.losses[0], rtol=1e-5)


@pytest.mark.parametrize("interpreter", INSTALLED[:1])
def test_steps_agree_with_keras(path, interpreter):
    # The order of sums differs: about 1e-7 of their size, more after each step. Where a gradient
    # is that close to 0, its sign may differ, and a loss may differ by about 1e-4.
    expected = keras_steps(tiny_classifier(), SETTINGS, 8)
    assert_steps_agree(path, interpreter, expected, tolerance=1e-4)


@pytest.mark.parametrize("interpreter", INSTALLED[:1])
def test_state_can_be_read_and_restored(path, interpreter):
    trainer = Trainer(path, interpreter=interpreter)
    first = trainer.get_weights()
    x, y, u = next(batches_of(SETTINGS, SHAPE, 3, 1))
    noise = np.zeros((7, *SHAPE), np.float32)
    losses = trainer.step(x, y, u, noise)
    moved = trainer.get_weights()
    for name in first:
        assert np.abs(moved[name] - first[name]).max() > 0, name
    assert trainer.step(x, y, u, noise) != losses
    trainer.set_weights(first)
    for name, values in trainer.get_weights().items():
        np.testing.assert_array_equal(values, first[name])
    assert trainer.step(x, y, u, noise) == losses
    # With learning rate 0, nothing changes.
    trainer.set_weights(first)
    trainer.step(x, y, u, noise, learning_rate=0.0)
    np.testing.assert_array_equal(
        trainer.get_weights()["layer_08_kernel"], first["layer_08_kernel"]
    )


def test_scalar_inputs_are_used(path):
    trainer = Trainer(path)
    first = trainer.get_weights()
    x, y, u = next(batches_of(SETTINGS, SHAPE, 3, 1))
    noise = np.ones((7, *SHAPE), np.float32)

    def losses(**scalars):
        trainer.set_weights(first)
        return trainer.step(x, y, u, noise, **scalars)

    usual = losses()
    assert usual["loss"] == pytest.approx(usual["labeled"] + 0.7 * usual["robust"], rel=1e-6)
    heavy = losses(robust_weight=2.0)
    assert heavy["loss"] == pytest.approx(usual["labeled"] + 2.0 * usual["robust"], rel=1e-6)
    assert losses(epsilon=0.3, step_size=0.3)["robust"] > usual["robust"]
    # With ε = 0, x' equals x, whose loss is the smallest in the ball.
    assert losses(epsilon=0.0)["robust"] < usual["robust"]
    with pytest.raises(TypeError, match="'rate'"):
        losses(rate=1.0)


def test_trained_weights_agree_in_keras(path):
    trainer, classifier = Trainer(path), tiny_classifier()
    x, y, u = next(batches_of(SETTINGS, SHAPE, 3, 1))
    for _ in range(3):
        trainer.step(x, y, u, np.zeros((7, *SHAPE)))
    assign_weights(classifier, trainer.get_weights())
    expected = tf.nn.softmax(classifier(u, training=False))
    np.testing.assert_allclose([trainer.classify(image) for image in u], expected, atol=1e-5)
    assert trainer.labels == list(NAMES)
    assert trainer.shape == SHAPE
    with pytest.raises(UserError, match="layer_02_kernel"):
        assign_weights(SmallCNN(width=2).build((28, 28, 1), 3), {"normalization": x})


def test_invalid_input_changes_nothing(path):
    trainer = Trainer(path)
    before = trainer.get_weights()
    x, y, u = next(batches_of(SETTINGS, SHAPE, 3, 1))
    noise = np.zeros((7, *SHAPE))
    for bad in (
        (x[:2], y, u, noise),
        (x, [0, 1, 3], u, noise),
        (x, [0, 1, -1], u, noise),
        (x, y, u * 2, noise),
        (x, y, u * np.nan, noise),
        (x, y, u, noise[:1]),
    ):
        with pytest.raises(BadImage):
            trainer.step(*bad)
    with pytest.raises(ValueError, match="names do not match"):
        trainer.set_weights({"x": x})
    with pytest.raises(ValueError, match=r"layer_08_bias: got the shape \(4,\)"):
        trainer.set_weights(before | {"layer_08_bias": np.zeros(4)})
    for name, values in trainer.get_weights().items():
        np.testing.assert_array_equal(values, before[name])


def test_damaged_file_is_refused(path, tmp_path):
    content = path.read_bytes()
    for damaged in (b"", b"garbage" * 100, content[:-100], content[: len(content) // 2]):
        (tmp_path / "model.tflite").write_bytes(damaged)
        with pytest.raises(BadModel):
            Trainer(tmp_path / "model.tflite")
