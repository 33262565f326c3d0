"""The residual network of the spatial experiments."""

import numpy as np
import pytest
import tensorflow as tf
from small_models import num_trainable

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import keras
from keras_srt.models import ResNet


def test_shortcuts_have_no_weights():
    """(16; 16, 32, 64; 5 blocks) of Engstrom et al. at 32×32: convolutions 3×3 only."""
    model = ResNet().build((32, 32, 3), 10)
    kernels = [w.shape for w in model.trainable_weights if len(w.shape) == 4]
    assert len(kernels) == 1 + 3 * 5 * 2
    assert {tuple(shape[:2]) for shape in kernels} == {(3, 3)}
    weights, width = 27 * 16, 16
    for filters in (16, 32, 64):
        for _ in range(5):
            weights += 2 * width + 9 * width * filters + 2 * filters + 9 * filters * filters
            width = filters
    assert num_trainable(model) == weights + 2 * 64 + 64 * 10 + 10


def test_resnet_shortcuts_pool_and_pad_with_zeros_on_both_sides():
    from keras_srt.models.residual import padding_shortcut

    x = np.random.default_rng(0).random((2, 4, 6, 3), np.float32)
    found = padding_shortcut(tf.constant(x), 8, 2).numpy()
    pooled = x.reshape(2, 2, 2, 3, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(found[..., 2:5], pooled, atol=1e-6)
    np.testing.assert_array_equal(found[..., :2], 0)
    np.testing.assert_array_equal(found[..., 5:], 0)
    np.testing.assert_array_equal(padding_shortcut(tf.constant(x), 3, 1), x)


@pytest.mark.parametrize("size", [1, 3, 5, 6, 7, 11])
def test_resnet_shortcuts_fit_images_of_any_size(size):
    """Nothing is broadcast where a stage halves an odd size."""
    model = ResNet(filters=(2, 2, 3, 4), blocks=1).build((size, size, 1), 3)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Add):
            shapes = {tuple(part.shape) for part in layer.input}
            assert shapes == {tuple(layer.output.shape)}


@pytest.mark.parametrize("filters", [(8,), (), (8, 4), (4, 8, 7)])
def test_descending_filters_are_rejected(filters):
    with pytest.raises(InvalidSettings, match=r"^filters: got"):
        ResNet(filters=filters)
