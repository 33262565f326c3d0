"""Laws of every registered model; a test module that imports them gives the fixture `name`."""

import dataclasses
import functools
import json

import numpy as np
import pytest
import tensorflow as tf
from small_models import CASES, MEAN, SHAPE, STD

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import keras
from keras_srt.models.dropout import all_layers

each_precision = pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])


@pytest.fixture(scope="session")
def built():
    """Builds a case once for all tests that leave it as it is: those for photos take seconds.

    A model has the same weights whatever its precision and normalization are.
    """

    @functools.cache
    def build(name, precision="float32", mean=MEAN, std=STD):
        keras.utils.set_random_seed(0)
        case = dataclasses.replace(CASES[name][0], mean=mean, std=std)
        return case.build(SHAPE, 7, precision)

    return build


@each_precision
def test_float32_images_to_float32_logits(name, precision, photos, built):
    model = built(name, precision)
    assert model.input_shape == (None, *SHAPE)
    assert model.output_shape == (None, 7)
    assert model.input.dtype == tf.float32
    logits = model(photos)
    assert logits.dtype == tf.float32
    assert np.all(np.isfinite(logits))
    assert all(weight.dtype == tf.float32 for weight in model.weights)
    assert model.layers[-1].name == "logits"
    assert model.layers[-1].activation is keras.activations.linear
    convolutions = [x for x in all_layers(model) if isinstance(x, keras.layers.Conv2D)]
    inner = {layer.compute_dtype for layer in convolutions}
    assert inner == {"bfloat16" if precision == "mixed_bfloat16" else "float32"}
    assert keras.mixed_precision.global_policy().name == "float32"


def test_mixed_precision_is_close_to_full_precision(name, photos, built):
    full, mixed = built(name)(photos), built(name, "mixed_bfloat16")(photos)
    assert 0 < np.max(np.abs(mixed - full)) < 0.1 * np.max(np.abs(full))


@pytest.mark.parametrize(("mean", "std"), [(MEAN, STD), ((0.1,), (0.5,)), ((0.1,), STD)])
def test_normalization_is_part_of_the_model(name, mean, std, photos, built):
    """f(x) is the plain model's answer on (x - mean)/std."""
    inside, plain = built(name, mean=mean, std=std), built(name, mean=(0.0,), std=(1.0,))
    by_hand = (photos - np.float32(mean)) / np.float32(std)
    size = float(np.max(np.abs(inside(photos))))
    np.testing.assert_allclose(inside(photos), plain(by_hand), rtol=1e-4, atol=1e-4 * size)
    assert np.max(np.abs(inside(photos) - plain(photos))) > 1e-3 * size


@each_precision
def test_model_round_trips_through_json_and_weights(name, precision, photos, tmp_path):
    if name == "convnext_tiny" and keras.__version__.startswith("2."):
        pytest.skip("Keras 2 can't read its own ConvNeXt from JSON")
    model = CASES[name][0].build(SHAPE, 7, precision)
    model(photos, training=True)  # statistics of BatchNorm that are not the initial ones
    model.save_weights(tmp_path / "model.weights.h5")
    back = keras.models.model_from_json(json.dumps(json.loads(model.to_json())))
    back.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(back(photos), model(photos))


def test_inference_treats_images_independently(name, photos, built):
    model = built(name)
    together = model(photos, training=False)
    for index in range(len(photos)):
        np.testing.assert_allclose(
            model(photos[index : index + 1], training=False)[0], together[index], atol=1e-5
        )


def test_gradients_reach_every_weight_and_the_images(name, photos):
    model = CASES[name][0].build(SHAPE, 7)
    images = tf.constant(photos)
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = tf.reduce_sum(tf.square(model(images, training=True)))
    gradients = tape.gradient(loss, [images, *model.trainable_weights])
    assert all(np.any(gradient != 0) for gradient in gradients)


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("field", ["mean", "std"])
def test_mean_and_std_must_match_the_channels(name, count, field):
    case = type(CASES[name][0])(**{field: (0.5,) * count})
    with pytest.raises(InvalidSettings) as caught:
        case.build(SHAPE, 7)
    assert caught.value.problems == (
        f"{field}: got {count} values; allowed: 1, or 3, one per channel of the images",
    )


@pytest.mark.parametrize("std", [(0.0,), (-1.0,), ()])
def test_std_must_be_positive(name, std):
    with pytest.raises(InvalidSettings, match=r"^std"):
        type(CASES[name][0])(std=std)


@each_precision
def test_too_small_images_are_rejected(name, precision):
    case, too_small = CASES[name]
    if too_small is None:
        pytest.skip("takes images of any size")
    with pytest.raises(InvalidSettings) as caught:
        case.build(too_small, 7, precision)
    assert keras.mixed_precision.global_policy().name == "float32"
    (problem,) = caught.value.problems
    assert problem == (
        f"name: got '{name}' for images of {too_small}; allowed: a model that supports this size, "
        "or images of another size"
    )
