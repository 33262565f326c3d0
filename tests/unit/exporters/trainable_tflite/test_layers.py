"""Clones have the outputs, gradients and BatchNorm statistics of the classifier."""

import numpy as np
import pytest
import tensorflow as tf
from trainable_models import SHAPE, tiny_classifier

from keras_srt.core.errors import UserError
from keras_srt.core.tensorflow import keras
from keras_srt.exporters.trainable_tflite.layers import TRAINABLE_MODELS, trainable_clone
from keras_srt.models import MODELS, ResNet, ResNet9, SmallCNN, WideResNet

layers = keras.layers


def random_images(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize(
    "build",
    [
        tiny_classifier,
        lambda: SmallCNN(width=2, hidden=5, dropout=0.0).build((16, 16, 1), 3),
        lambda: ResNet(filters=(2, 2, 4), blocks=1).build((7, 9, 1), 3),
        lambda: WideResNet(depth=10, widening=1).build((8, 8, 3), 3),
        lambda: ResNet9(width=2).build((16, 16, 3), 3),
    ],
    ids=["tiny", "small_cnn", "resnet", "wide_resnet", "resnet9"],
)
def test_clone_has_the_gradients_of_the_classifier(build):
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


@pytest.mark.parametrize("name", sorted(set(MODELS) - set(TRAINABLE_MODELS)))
def test_other_models_are_rejected_with_a_layer_and_the_models_that_work(name):
    classifier = MODELS.build({"name": name}).build((32, 32, 3), 3)
    with pytest.raises(UserError, match=r"--trainable: (got the )?layer '") as caught:
        trainable_clone(classifier)
    assert "Functional" not in str(caught.value)
    assert str(caught.value).endswith("such as small_cnn, wide_resnet, resnet, resnet9")


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
def test_unsupported_layers_are_refused(layer, reason):
    inputs = keras.Input(SHAPE)
    outputs = layers.Dense(3)(layers.Flatten()(layer(inputs)))
    with pytest.raises(UserError, match=reason) as error:
        trainable_clone(keras.Model(inputs, outputs))
    assert "\n" not in str(error.value)
