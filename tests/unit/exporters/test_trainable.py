"""`model_train.tflite` learns as Keras does: gradients, steps, every interpreter, builtins only."""

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from helpers import python, tiny, write_config
from tensorflow.lite.python import schema_py_generated as schema
from trainable_models import (
    INSTALLED,
    NAMES,
    SETTINGS,
    SHAPE,
    batches_of,
    keras_twin,
    made_file,
    noise_of,
    tiny_classifier,
    tiny_file,
)

from keras_srt.core.errors import UserError
from keras_srt.core.images import BadImage
from keras_srt.core.tensorflow import keras
from keras_srt.device.classify import BadModel
from keras_srt.device.trainer import Trainer
from keras_srt.exporters.trainable_tflite import gradients
from keras_srt.exporters.trainable_tflite.exporter import DeviceTrainingSettings
from keras_srt.exporters.trainable_tflite.layers import trainable_clone
from keras_srt.exporters.trainable_tflite.weights import assign_weights, weights_by_name
from keras_srt.models import ResNet, SmallCNN, WideResNet
from keras_srt.pipeline import run as pipeline

layers = keras.layers
TERMS = ("loss", "labeled", "robust")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp("trainable") / "model_train.tflite"
    file.write_bytes(tiny_file())
    return file


def random_images(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def both(ours, theirs, *inputs):
    """Values and gradients of two functions, under the same upstream gradient."""
    found = []
    for function in (ours, theirs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = function(*inputs)
        upstream = random_images(*value.shape, seed=9)
        found.append((value, *tape.gradient(value, inputs, output_gradients=upstream)))
    return zip(*found, strict=True)


# Operations: the values and gradients of TensorFlow's own.


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    ("size", "window", "strides"),
    [
        ((8, 8), (3, 3), (1, 1)),
        ((7, 9), (3, 3), (2, 2)),
        ((8, 7), (1, 1), (2, 2)),
        ((9, 8), (4, 2), (1, 1)),
        ((7, 8), (2, 3), (2, 2)),
    ],
)
def test_convolution(size, window, strides, padding):
    x, w = random_images(2, *size, 3), random_images(*window, 3, 4, seed=1)
    for ours, theirs in both(
        lambda x, w: gradients.conv2d(x, w, strides, padding),
        lambda x, w: tf.nn.conv2d(x, w, strides, padding),
        x,
        w,
    ):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("size", "window"), [((8, 8), 2), ((7, 9), 2), ((8, 7), 3), ((4, 4), 1)])
def test_pooling(size, window, padding):
    # Rounded, so that windows have ties: which place gets the gradient matters.
    x = tf.round(random_images(2, *size, 3))
    for ours, theirs in both(
        lambda x: gradients.max_pool(x, window, padding),
        lambda x: tf.nn.max_pool2d(x, window, window, padding),
        x,
    ):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in both(
        lambda x: gradients.average_pool(x, window, padding),
        lambda x: tf.nn.avg_pool2d(x, window, window, padding),
        x,
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_rectifiers_at_zero_too():
    x = tf.constant([-2.0, -0.0, 0.0, 3.0])
    for ours, theirs in both(gradients.relu, tf.nn.relu, x):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in both(
        lambda x: gradients.leaky_relu(x, 0.1), lambda x: tf.nn.leaky_relu(x, 0.1), x
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2, 3)])
def test_standardization(shape):
    def written_out(x):
        mean, variance = tf.nn.moments(x, list(range(len(shape) - 1)))
        return (x - mean) / tf.sqrt(variance + 1e-3)

    for ours, theirs in both(
        lambda x: gradients.standardize(x, 1e-3)[0], written_out, random_images(*shape)
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


# Clones: the classifier's answers, gradients and BatchNorm statistics.


@pytest.mark.parametrize(
    "build",
    [
        tiny_classifier,
        lambda: SmallCNN(width=2, hidden=5, dropout=0.0).build((16, 16, 1), 3),
        lambda: ResNet(filters=(2, 2, 4), blocks=1).build((7, 9, 1), 3),
        lambda: WideResNet(depth=10, widening=1).build((8, 8, 3), 3),
    ],
    ids=["tiny", "small_cnn", "resnet", "wide_resnet"],
)
def test_a_clone_learns_as_the_classifier(build):
    classifier = build()
    clone = trainable_clone(classifier)
    x = tf.abs(random_images(6, *classifier.input_shape[1:]))
    found = []
    for model in (classifier, clone):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(model(x, training=True)))
        moved = tape.gradient(loss, model.trainable_variables)
        found.append([*moved, *model.get_weights(), model(x, training=False)])
    for theirs, ours in zip(*found, strict=True):
        scale = float(tf.reduce_max(tf.abs(theirs))) + 1e-6
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * scale)


def test_dropout_is_left_out():
    classifier = SmallCNN(width=2, hidden=5, dropout=0.9).build((16, 16, 1), 3)
    x = tf.abs(random_images(2, 16, 16, 1))
    clone = trainable_clone(classifier)
    np.testing.assert_allclose(clone(x, training=True), classifier(x, training=False), atol=1e-6)


class MyDense(layers.Dense):
    pass


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (layers.SeparableConv2D(2, 3, name="odd"), r"'odd' \(SeparableConv2D\); allowed: Conv2D"),
        (layers.Conv2D(2, 3, dilation_rate=2, name="odd"), r"'odd' .* dilation_rate \(1, 1\)"),
        (layers.Conv2D(2, 3, activation="tanh", name="odd"), "'odd' .* linear or relu"),
        (layers.Conv2D(2, 3, kernel_regularizer="l2", name="odd"), "'odd' .* no regularizer"),
        (layers.MaxPooling2D(3, strides=2, name="odd"), "'odd' .* strides equal"),
        (layers.Activation("softmax", name="odd"), "'odd' .* linear or relu"),
        (layers.ReLU(6.0, name="odd"), "'odd' .* max_value"),
        (layers.Dense(2, name="odd"), "'odd' .* flat inputs"),
        (layers.BatchNormalization(axis=1, name="odd"), "'odd' .* the last axis"),
        (layers.Normalization(name="odd"), "'odd' .* not adapted"),
        (MyDense(2, name="odd"), r"'odd' \(MyDense\); allowed: Conv2D"),
    ],
)
def test_what_cannot_learn_there_is_refused(layer, reason):
    inputs = keras.Input(SHAPE)
    outputs = layers.Dense(3)(layers.Flatten()(layer(inputs)))
    with pytest.raises(UserError, match=reason) as error:
        trainable_clone(keras.Model(inputs, outputs))
    assert "\n" not in str(error.value)


# The file.


def test_only_builtin_operations(path):
    content = path.read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    names = {code: name for name, code in vars(schema.BuiltinOperator).items()}
    used = {names[max(c.builtinCode, c.deprecatedBuiltinCode)] for c in model.operatorCodes}
    assert {"CONV_2D", "TRANSPOSE_CONV", "ASSIGN_VARIABLE"} <= used
    assert not used & {"CUSTOM", "DELEGATE", "REVERSE_V2"}
    assert not [code.customCode for code in model.operatorCodes if code.customCode]


class KerasSteps(NamedTuple):
    """Steps of the Keras implementation: what they took, their losses, the weights after them."""

    inputs: list
    losses: list
    weights: dict


def keras_steps(classifier, settings, steps):
    twin = keras_twin(classifier, settings)
    shape, classes = classifier.input_shape[1:], classifier.output_shape[-1]
    train_step = tf.function(twin.train_step)
    inputs, losses = [], []
    for step, (x, y, u) in enumerate(batches_of(settings, shape, classes, steps)):
        inputs.append((x, y, u, noise_of(twin, step, (len(x) + len(u), *shape))))
        twin.reset_metrics()
        found = train_step({"labeled": (x, y), "unlabeled": u})
        losses.append([float(found[term]) for term in TERMS])
    weights = {name: weight.numpy() for name, weight in weights_by_name(classifier).items()}
    return KerasSteps(inputs, losses, weights)


def assert_steps_agree(path, interpreter, expected, tolerance):
    """Takes the same steps in an interpreter; compares all losses and the last weights."""
    trainer = Trainer(path, interpreter=interpreter)
    losses = [trainer.step(*inputs) for inputs in expected.inputs]
    found = [[loss[term] for term in TERMS] for loss in losses]
    np.testing.assert_allclose(found, expected.losses, rtol=tolerance)
    state = trainer.get_weights()
    for name, weight in expected.weights.items():
        scale = np.abs(weight).max() + 1.0
        np.testing.assert_allclose(state[name], weight, atol=tolerance * scale, err_msg=name)


@pytest.fixture(scope="module")
def eight_steps():
    return keras_steps(tiny_classifier(), SETTINGS, 8)


@pytest.mark.parametrize("interpreter", INSTALLED)
def test_steps_agree_with_keras(path, interpreter, eight_steps):
    # Sums in another order differ by about 1e-7 of their size, more after each step. Should
    # a gradient be that close to 0, its sign may differ and with it a pixel of x': then a
    # loss may differ by some 1e-4, and the tolerance has to be looked at again.
    assert_steps_agree(path, interpreter, eight_steps, tolerance=1e-4)


@pytest.mark.parametrize("interpreter", INSTALLED)
def test_state_comes_and_goes(path, interpreter):
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
    # Nothing learned, nothing moved, at a rate of 0.
    trainer.set_weights(first)
    trainer.step(x, y, u, noise, learning_rate=0.0)
    np.testing.assert_array_equal(
        trainer.get_weights()["layer_08_kernel"], first["layer_08_kernel"]
    )


def test_scalars_count(path):
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
    # In a ball of no size x' is x: the loss of the model's own answers, the least there is.
    assert losses(epsilon=0.0)["robust"] < usual["robust"]
    with pytest.raises(TypeError, match="'rate'"):
        losses(rate=1.0)


def test_it_answers_with_what_it_learned(path):
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


def test_bad_input_changes_nothing(path):
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
    with pytest.raises(ValueError, match="other names"):
        trainer.set_weights({"x": x})
    with pytest.raises(ValueError, match=r"layer_08_bias: got the shape \(4,\)"):
        trainer.set_weights(before | {"layer_08_bias": np.zeros(4)})
    for name, values in trainer.get_weights().items():
        np.testing.assert_array_equal(values, before[name])


def test_a_damaged_file_is_refused(path, tmp_path):
    content = path.read_bytes()
    for damaged in (b"", b"garbage" * 100, content[:-100], content[: len(content) // 2]):
        (tmp_path / "model.tflite").write_bytes(damaged)
        with pytest.raises(BadModel):
            Trainer(tmp_path / "model.tflite")


# Settings from a config.


def config_of(tmp_path, **changes):
    return pipeline.load_config(str(write_config(tmp_path, tiny(**changes))))


def test_settings_follow_the_training(tmp_path):
    config = config_of(tmp_path, neighborhood__step_size=0.07)
    assert pipeline.device_training_settings(config, 2, 6) == DeviceTrainingSettings(
        num_steps=2,
        epsilon=0.1,
        step_size=0.07,
        labeled=2,
        unlabeled=6,
        robust_weight=1.0,
        learning_rate=0.05 * 8 / 16,
        momentum=config.training.momentum,
        weight_decay=config.training.weight_decay,
    )
    with pytest.raises(UserError, match="unlabeled: got 0"):
        pipeline.device_training_settings(config, 2, 0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"neighborhood": {"name": "l2", "epsilon": 1.0}}, "'l2'; allowed: linf"),
        (
            {"neighborhood": {"name": "linf", "epsilon": 0.1, "random_start": 0.001}},
            "random_start 0.001; allowed: true or false",
        ),
        ({"objective": {"name": "srt", "robust_loss": "kl"}}, "'kl'; allowed: cross_entropy"),
        ({"objective": {"name": "uat"}}, "'uat'; allowed: srt, rt"),
    ],
)
def test_settings_that_have_no_step_are_refused(tmp_path, changes, reason):
    with pytest.raises(UserError, match=reason):
        pipeline.device_training_settings(config_of(tmp_path, **changes))


# Whole models.


@pytest.mark.slow
@pytest.mark.parametrize(
    "build",
    [
        lambda: SmallCNN(dropout=0.0).build((28, 28, 1), 10),
        lambda: ResNet(filters=(4, 4, 8), blocks=1).build((28, 28, 1), 10),
        lambda: WideResNet(depth=10, widening=1).build((16, 16, 3), 10),
    ],
    ids=["small_cnn", "resnet", "wide_resnet"],
)
def test_steps_of_real_models_agree_with_keras(build, tmp_path):
    settings = dataclasses.replace(SETTINGS, labeled=4, unlabeled=8, num_steps=3)
    path = tmp_path / "model_train.tflite"
    path.write_bytes(made_file(build(), settings, [str(digit) for digit in range(10)]))
    classifier = build()
    assign_weights(classifier, Trainer(path).get_weights())
    expected = keras_steps(classifier, settings, 6)
    for interpreter in INSTALLED:
        # Of the 28,000 signs that a step takes some differ, see above: measured 2e-2.
        assert_steps_agree(path, interpreter, expected, tolerance=5e-2)


@pytest.mark.slow
def test_export_trainable_from_the_command_line(tmp_path):
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
