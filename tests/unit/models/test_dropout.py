"""Dropout that draws from (seed, step): the same units once more, others elsewhere."""

import numpy as np
import pytest

from keras_srt.core.tensorflow import keras, tf
from keras_srt.models.dropout import Dropout, dropout_seed

ONES = np.ones([40, 50], np.float32)


@pytest.fixture
def model():
    inner = keras.Sequential([keras.Input((50,)), Dropout(0.25)])
    return keras.Sequential([keras.Input((50,)), inner, Dropout(0.5)])


def drawn(model, seed, calls=1):
    """The answers of some calls in training."""
    with dropout_seed(model, tf.constant(seed)):
        return [model(ONES, training=True).numpy() for _ in range(calls)]


def test_a_value_is_dropped_or_grows(model):
    (found,) = drawn(model, [3, 0])
    np.testing.assert_allclose(found[found != 0], 1 / 0.75 / 0.5, rtol=1e-6)
    # 0.375 of 2,000 values, within four standard deviations.
    assert abs((found != 0).mean() - 0.375) < 4 * np.sqrt(0.375 * 0.625 / 2000)


def test_the_draws_are_a_function_of_the_seed_and_differ_from_call_to_call(model):
    one, two = drawn(model, [3, 0], calls=2)
    again = drawn(model, [3, 0], calls=2)
    np.testing.assert_array_equal(one, again[0])
    np.testing.assert_array_equal(two, again[1])
    assert np.any(one != two)
    assert np.any(one != drawn(model, [3, 1])[0])


def test_a_noise_shape_drops_whole_rows():
    model = keras.Sequential([keras.Input((50,)), Dropout(0.25, noise_shape=(None, 1))])
    (found,) = drawn(model, [3, 0])
    np.testing.assert_array_equal((found == 0).all(axis=1), (found == 0).any(axis=1))
    assert 0 < (found[:, 0] == 0).sum() < 30


def test_layers_draw_apart():
    first, second = Dropout(0.5), Dropout(0.5)
    inputs = keras.Input((50,))
    model = keras.Model(inputs, [first(inputs), second(inputs)])
    with dropout_seed(model, tf.constant([1, 2])):
        one, two = model(ONES, training=True)
    assert np.any(one.numpy() != two.numpy())


def test_nothing_is_dropped_in_inference_or_at_rate_0(model):
    with dropout_seed(model, tf.constant([1, 2])):
        np.testing.assert_array_equal(model(ONES, training=False), ONES)
        np.testing.assert_array_equal(Dropout(0.0)(ONES, training=True), ONES)


def test_outside_it_is_the_layer_of_keras(model):
    keras.utils.set_random_seed(5)
    found = Dropout(0.5)(ONES, training=True)
    keras.utils.set_random_seed(5)
    np.testing.assert_array_equal(found, keras.layers.Dropout(0.5)(ONES, training=True))
    assert Dropout.from_config(Dropout(0.3).get_config()).rate == 0.3
    assert model.weights == []
