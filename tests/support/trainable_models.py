"""A tiny `model_train.tflite`, and the same training in Keras."""

import functools
import importlib.util
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from keras_srt import L2, RT, SRT, Composite, LInf, RobustModel, Spatial
from keras_srt.core.tensorflow import keras
from keras_srt.device.classify import INTERPRETERS
from keras_srt.device.trainer import Trainer
from keras_srt.exporters.trainable_tflite.exporter import DeviceTrainingSettings, write_trainable
from keras_srt.exporters.trainable_tflite.weights import weights_by_name
from keras_srt.neighborhoods.draws import fold

SHAPE = (8, 8, 1)
NAMES = ("left", "middle", "right")
SETTINGS = DeviceTrainingSettings(
    num_steps=2,
    epsilon=0.1,
    step_size=0.05,
    num_samples=3,
    max_rotation=40.0,
    max_translation=2.0,
    labeled=3,
    unlabeled=4,
    robust_weight=0.7,
    learning_rate=0.05,
    momentum=0.9,
    weight_decay=5e-4,
)
# Neighborhoods other than the L∞ ball, and RT.
VARIANTS = {
    "l2": {"stages": ("l2",), "epsilon": 1.0, "step_size": 0.5},
    "spatial": {"stages": ("spatial",)},
    "pixel_spatial": {"stages": ("linf", "spatial")},
    "spatial_pixel": {"stages": ("spatial", "linf")},
    "spatial_l2": {"stages": ("spatial", "l2"), "epsilon": 1.0, "step_size": 0.5},
    "rt": {"unlabeled": 0},
    "rt_spatial": {"stages": ("spatial",), "unlabeled": 0},
}
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
    """Batches (labeled, labels, unlabeled) of random images; unlabeled is None for RT."""
    generator = np.random.default_rng(11)
    for _ in range(count):
        yield (
            generator.random((settings.labeled, *shape), np.float32),
            generator.integers(0, classes, settings.labeled).astype(np.int32),
            generator.random((settings.unlabeled, *shape), np.float32)
            if settings.unlabeled
            else None,
        )


def keras_twin(classifier, settings):
    """The Keras implementation of the same training."""
    stages = [_neighborhood(stage, settings) for stage in settings.stages]
    model = RobustModel(
        classifier,
        stages[0] if len(stages) == 1 else Composite(stages),
        (SRT if settings.unlabeled else RT)(robust_weight=settings.robust_weight),
        seed=3,
        weight_decay=settings.weight_decay,
    )
    model.compile(keras.optimizers.SGD(settings.learning_rate, momentum=settings.momentum))
    return model


def _neighborhood(stage, settings):
    if stage == "spatial":
        names = ("max_rotation", "max_translation", "num_samples")
        return Spatial(**{name: getattr(settings, name) for name in names})
    return {"linf": LInf, "l2": L2}[stage](
        settings.epsilon, num_steps=settings.num_steps, step_size=settings.step_size
    )


def draws_of(model, settings, step, shape):
    """The random draws of `RobustModel` at a step: `noise` in units of ε, `draws` in limits."""
    drawn, seed = {}, model._seed_at(tf.constant(step))
    for index, stage in enumerate(settings.stages):
        own = seed if len(settings.stages) == 1 else fold(seed, index)
        images = tf.zeros(shape)
        if stage == "spatial":
            unit = Spatial(1.0, max_translation=1.0)
            samples = [unit.sample(images, fold(own, k)) for k in range(settings.num_samples)]
            drawn["draws"] = np.stack(samples)
        else:
            unit = {"linf": LInf, "l2": L2}[stage](1.0)
            drawn["noise"] = unit.sample(images, own).numpy()
    return drawn


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
        count = settings.labeled + settings.unlabeled
        drawn = draws_of(twin, settings, step, (count, *shape))
        inputs.append({"labeled": x, "labels": y, "unlabeled": u, **drawn})
        twin.reset_metrics()
        data = {"labeled": (x, y)} | ({} if u is None else {"unlabeled": u})
        found = twin.train_step(data)
        losses.append([float(found[term]) for term in TERMS])
    weights = {name: weight.numpy() for name, weight in weights_by_name(classifier).items()}
    return KerasSteps(inputs, losses, weights)


def assert_steps_agree(path, interpreter, expected, tolerance):
    """Repeat the steps in an interpreter; compare all losses and the final weights."""
    trainer = Trainer(path, interpreter=interpreter)
    losses = [trainer.step(**inputs) for inputs in expected.inputs]
    found = [[loss[term] for term in TERMS] for loss in losses]
    np.testing.assert_allclose(found, expected.losses, rtol=tolerance)
    state = trainer.get_weights()
    for name, weight in expected.weights.items():
        scale = np.abs(weight).max() + 1.0
        np.testing.assert_allclose(state[name], weight, atol=tolerance * scale, err_msg=name)


def assert_only_builtin_operations(content):
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    names = {code: name for name, code in vars(schema.BuiltinOperator).items()}
    used = {names[max(c.builtinCode, c.deprecatedBuiltinCode)] for c in model.operatorCodes}
    assert {"CONV_2D", "TRANSPOSE_CONV", "ASSIGN_VARIABLE"} <= used
    assert not used & {"CUSTOM", "DELEGATE", "REVERSE_V2"}
    assert not [code.customCode for code in model.operatorCodes if code.customCode]
