"""The convolution with its own gradient with respect to gray images, beside Keras'."""

import numpy as np
import pytest

from keras_srt.core.tensorflow import keras, tf
from keras_srt.models import SmallCNN
from keras_srt.models.convolution import Conv2D

GRAY = np.random.default_rng(3).random((3, 9, 7, 1), np.float32)


def twins(shape=(None, 9, 7, 1), **settings):
    """Ours and Keras' with equal weights."""
    settings = {"filters": 5, "kernel_size": (3, 2), "activation": "tanh", **settings}
    ours, theirs = Conv2D(**settings), keras.layers.Conv2D(**settings)
    for layer in (ours, theirs):
        layer.build(shape)
    theirs.set_weights([ours.kernel.numpy(), np.linspace(-1, 1, 5, dtype=np.float32)])
    ours.set_weights(theirs.get_weights())
    return ours, theirs


def outcome(layer, images):
    """Outputs and the gradients of Σ outputs², with respect to images, kernel and bias."""
    images = tf.convert_to_tensor(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = tf.cast(layer(images), tf.float32)
        loss = tf.reduce_sum(outputs**2)
    return [outputs, *tape.gradient(loss, [images, layer.kernel, layer.bias])]


@pytest.mark.parametrize("kernel_size", [(3, 2), (1, 1), (2, 5), (9, 7)])
@pytest.mark.parametrize("traced", [False, True])
def test_it_is_the_layer_of_keras(kernel_size, traced):
    ours, theirs = twins(kernel_size=kernel_size)
    function = tf.function(outcome, autograph=False) if traced else outcome
    for mine, its in zip(function(ours, GRAY), function(theirs, GRAY), strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-5, atol=1e-5)


def test_the_gradient_is_that_of_finite_differences():
    layer, _ = twins()
    _, gradient, *_ = outcome(layer, GRAY)
    kernel, bias = (np.float64(value) for value in layer.get_weights())

    def loss(images):
        windows = np.lib.stride_tricks.sliding_window_view(images[..., 0], (3, 2), axis=(1, 2))
        return np.sum(np.tanh(np.einsum("nhwrc,rcf->nhwf", windows, kernel[:, :, 0]) + bias) ** 2)

    for place in [(0, 0, 0, 0), (1, 4, 3, 0), (2, 8, 6, 0)]:
        step = np.zeros(GRAY.shape)
        step[place] = 1e-6
        slope = (loss(GRAY + step) - loss(GRAY - step)) / 2e-6
        np.testing.assert_allclose(gradient[place], slope, rtol=1e-4)


def test_the_sum_over_the_kernel_is_not_rounded_to_bfloat16():
    layer = Conv2D(1, 3, use_bias=False, dtype="mixed_bfloat16")
    layer.build((None, 5, 5, 1))
    layer.set_weights([np.reshape([256.0] + 8 * [1.0], (3, 3, 1, 1))])
    images = tf.ones([1, 5, 5, 1])
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = layer(images)
    # bfloat16 knows no number between 256 and 258.
    assert tape.gradient(outputs, images)[0, 2, 2, 0] == 264


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((9, 7, 3), {}),
        ((9, 7, 1), {"padding": "same"}),
        ((9, 7, 1), {"strides": 2}),
        ((9, 7, 1), {"dilation_rate": 2}),
    ],
)
def test_others_are_left_to_keras(shape, settings, monkeypatch):
    ours, theirs = twins((None, *shape), **settings)
    monkeypatch.setattr("keras_srt.models.convolution._convolve", None)
    images = np.random.default_rng(4).random((2, *shape), np.float32)
    for mine, its in zip(outcome(ours, images), outcome(theirs, images), strict=True):
        np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize(("channels", "of_keras"), [(1, 3), (3, 4)])
def test_small_cnn_takes_it_for_gray_images(channels, of_keras):
    """One of its four convolutions sees the images."""
    classifier = SmallCNN(width=2, hidden=4).build((16, 16, channels), 3)

    @tf.function(autograph=False)
    def gradient(images):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            logits = classifier(images, training=False)
        return tape.gradient(logits, images)

    traced = gradient.get_concrete_function(tf.TensorSpec([None, 16, 16, channels]))
    kinds = [operation.type for operation in traced.graph.get_operations()]
    assert kinds.count("Conv2DBackpropInput") == of_keras


def test_a_savedmodel_has_the_gradient(tmp_path):
    layer, _ = twins()
    module = tf.Module()
    module.layer = layer
    module.answer = tf.function(layer, input_signature=[tf.TensorSpec([None, 9, 7, 1])])
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    images = tf.constant(GRAY)
    slopes = []
    for function in (layer, loaded.answer):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = function(images)
        slopes.append(tape.gradient(outputs, images))
    np.testing.assert_allclose(*slopes, atol=1e-6)


def test_xla_compiles_it():
    ours, theirs = twins((None, 9, 7, 1))
    compiled = tf.function(lambda images: outcome(ours, images), jit_compile=True)
    for mine, its in zip(compiled(tf.constant(GRAY)), outcome(theirs, GRAY), strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-4, atol=1e-5)
