"""A tiny `model_train.tflite`, and the same training in Keras."""

import functools
import importlib.util
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_srt import SRT, LInf, RobustModel
from keras_srt.core.tensorflow import keras
from keras_srt.device.classify import INTERPRETERS
from keras_srt.device.trainer import Trainer
from keras_srt.exporters.trainable_tflite.exporter import DeviceTrainingSettings, write_trainable
from keras_srt.exporters.trainable_tflite.weights import weights_by_name

SHAPE = (8, 8, 1)
NAMES = ("left", "middle", "right")
SETTINGS = DeviceTrainingSettings(
    num_steps=2,
    epsilon=0.1,
    step_size=0.05,
    labeled=3,
    unlabeled=4,
    robust_weight=0.7,
    learning_rate=0.05,
    momentum=0.9,
    weight_decay=5e-4,
)
TERMS = ("loss", "labeled", "robust")
INSTALLED = [
    name
    for name, (module, _) in INTERPRETERS.items()
    if importlib.util.find_spec(module.partition(".")[0])
]


def tiny_classifier():
    """A classifier of 8×8 images with one of each layer that has its own gradient."""
    layers = keras.layers
    keras.utils.set_random_seed(7)
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    x = layers.MaxPooling2D(2)(x)
    x = layers.LeakyReLU(0.1)(layers.BatchNormalization()(x))
    x = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.Dropout(0.0)(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(len(NAMES))(x))


def made_file(classifier, settings, class_names=NAMES):
    """The content of the file that `write_trainable` writes for a classifier."""
    samples = np.random.default_rng(0).random((2, *classifier.input_shape[1:]), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model_train.tflite"
        write_trainable(classifier, class_names, path, settings, samples)
        return path.read_bytes()


@functools.cache
def tiny_file():
    """The content of a `model_train.tflite` of the tiny classifier, with `SETTINGS`."""
    return made_file(tiny_classifier(), SETTINGS)


def batches_of(settings, shape, classes, count):
    """Batches (labeled, labels, unlabeled) of random images."""
    generator = np.random.default_rng(11)
    for _ in range(count):
        yield (
            generator.random((settings.labeled, *shape), np.float32),
            generator.integers(0, classes, settings.labeled).astype(np.int32),
            generator.random((settings.unlabeled, *shape), np.float32),
        )


def keras_twin(classifier, settings):
    """The Keras implementation of the same training."""
    ball = LInf(
        epsilon=settings.epsilon, num_steps=settings.num_steps, step_size=settings.step_size
    )
    model = RobustModel(
        classifier,
        ball,
        SRT(robust_weight=settings.robust_weight),
        seed=3,
        weight_decay=settings.weight_decay,
    )
    model.compile(keras.optimizers.SGD(settings.learning_rate, momentum=settings.momentum))
    return model


def noise_of(model, step, shape):
    """The noise that `RobustModel` draws at a step, in units of ε."""
    seed = model._seed_at(tf.constant(step))
    return LInf(epsilon=1.0).sample(tf.zeros(shape), seed).numpy()


class KerasSteps(NamedTuple):
    """Inputs and losses of steps of the Keras implementation, and the weights after them."""

    inputs: list
    losses: list
    weights: dict


def keras_steps(classifier, settings, steps):
    twin = keras_twin(classifier, settings)
    shape, classes = classifier.input_shape[1:], classifier.output_shape[-1]
    inputs, losses = [], []
    for step, (x, y, u) in enumerate(batches_of(settings, shape, classes, steps)):
        inputs.append((x, y, u, noise_of(twin, step, (len(x) + len(u), *shape))))
        twin.reset_metrics()
        found = twin.train_step({"labeled": (x, y), "unlabeled": u})
        losses.append([float(found[term]) for term in TERMS])
    weights = {name: weight.numpy() for name, weight in weights_by_name(classifier).items()}
    return KerasSteps(inputs, losses, weights)


def assert_steps_agree(path, interpreter, expected, tolerance):
    """Repeat the steps in an interpreter; compare all losses and the final weights."""
    trainer = Trainer(path, interpreter=interpreter)
    losses = [trainer.step(*inputs) for inputs in expected.inputs]
    found = [[loss[term] for term in TERMS] for loss in losses]
    np.testing.assert_allclose(found, expected.losses, rtol=tolerance)
    state = trainer.get_weights()
    for name, weight in expected.weights.items():
        scale = np.abs(weight).max() + 1.0
        np.testing.assert_allclose(state[name], weight, atol=tolerance * scale, err_msg=name)
