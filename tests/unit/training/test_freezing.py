"""Frozen training: the backbone stays bit-equal, then all weights are trained."""

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import keras
from keras_srt.neighborhoods import LInf
from keras_srt.objectives import SRT, Standard
from keras_srt.training.freezing import head
from keras_srt.training.model import RobustModel

PIXEL = LInf(epsilon=0.1, num_steps=2)


@pytest.fixture
def batches(images, labels, unlabeled):
    """Endless batches of the same images."""
    data = {"labeled": (images, labels), "unlabeled": unlabeled}
    return tf.data.Dataset.from_tensors(data).repeat()


@pytest.fixture
def make_model(make_classifier):
    """Makes a compiled model of the same initial weights each time."""

    def make(freeze, optimizer=None, eager=False, **settings):
        keras.utils.set_random_seed(0)
        model = RobustModel(make_classifier(), PIXEL, SRT(), freeze=freeze, **settings)
        model.compile(optimizer or keras.optimizers.SGD(0.1, momentum=0.9), run_eagerly=eager)
        return model

    return make


def trained(model, batches, steps):
    """The weights of backbone and head after some steps; BatchNorm statistics are included."""
    model.fit(batches, steps_per_epoch=steps, verbose=0)
    weights = [w.copy() for w in model.classifier.get_weights()]
    return weights[:-2], weights[-2:]


def equal(one, other):
    """For each array, whether the two are bit-equal."""
    return [np.array_equal(a, b) for a, b in zip(one, other, strict=True)]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sgd", {"weight_decay": 0.01, "gradient_clip": 0.5, "ema": 0.9}),
        ("adamw", {"loss_scale": True}),
    ],
)
def test_the_backbone_stays_bit_equal_while_it_is_frozen(name, settings, batches, make_model):
    adamw = keras.optimizers.AdamW(0.01, weight_decay=0.1) if name == "adamw" else None
    model = make_model(2, adamw, **settings)
    start = model.classifier.get_weights()
    backbone, logits = trained(model, batches, 2)
    assert all(equal(start[:-2], backbone))
    assert not any(equal(start[-2:], logits))
    averaged = model.inference_model.get_weights()
    assert all(equal(start[:-2], averaged[:-2]))
    assert not any(equal(start[-2:], averaged[-2:]))
    assert not any(equal(backbone, trained(model, batches, 1)[0]))  # BatchNorm statistics, too


def test_calls_of_fit_split_the_frozen_steps_anywhere(batches, make_model):
    whole, parts = make_model(3, eager=True), make_model(3, eager=True)
    trained(whole, batches, 5)
    for steps in (2, 2, 1):
        trained(parts, batches, steps)
    assert all(equal(whole.classifier.get_weights(), parts.classifier.get_weights()))


def test_a_frozen_step_is_that_of_a_network_whose_backbone_is_not_trainable(
    images, labels, make_classifier
):
    """Keras runs such BatchNorm layers in inference mode, too."""
    keras.utils.set_random_seed(0)
    classifier = make_classifier()
    reference = keras.models.clone_model(classifier)
    reference.set_weights(classifier.get_weights())
    for layer in reference.layers[:-1]:
        layer.trainable = False
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    reference.compile(keras.optimizers.SGD(0.1), loss)
    model = RobustModel(classifier, None, Standard(), freeze=3)
    model.compile(keras.optimizers.SGD(0.1))
    for either in (reference, model):
        either.fit(tf.data.Dataset.from_tensors((images, labels)).repeat(3), verbose=0)
    for one, other in zip(classifier.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_network_without_head_or_backbone_is_refused():
    dense, flatten = keras.layers.Dense(3), keras.layers.Flatten()
    alone = keras.Sequential([keras.Input((8, 8, 2)), flatten, dense])
    with pytest.raises(InvalidSettings, match="without trainable weights before its last layer"):
        head(alone)
    pooled = keras.Sequential(
        [keras.Input((8, 8, 2)), keras.layers.Conv2D(3, 3), keras.layers.GlobalMaxPool2D(name="p")]
    )
    with pytest.raises(InvalidSettings, match=r"ends with the layer 'p' .*allowed: 0, or a class"):
        RobustModel(pooled, PIXEL, SRT(), freeze=1)
    RobustModel(pooled, PIXEL, SRT())
