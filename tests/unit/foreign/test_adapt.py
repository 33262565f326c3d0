"""Third-party models become images in [0, 1] -> logits, or are refused."""

import numpy as np
import pytest

import keras_srt as srt
from keras_srt.core.classifier_outputs import FLOOR
from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.tensorflow import keras, tf
from keras_srt.foreign.adapt import adapt, adapt_keras, adapt_model
from keras_srt.foreign.keras_models import open_keras_model
from keras_srt.foreign.model_inputs import probes
from keras_srt.foreign.model_options import ModelOptions
from keras_srt.foreign.opened_model import OpenedModel
from keras_srt.foreign.savedmodels import open_savedmodel

SHAPE = (4, 4, 1)
LINE = "inputs: [0, 1] is scaled to [0, 255] (it begins with Rescaling, scale 0.00392)"


def pixels(images):
    """The first two pixels of images."""
    return tf.reshape(tf.cast(images, tf.float32), [-1, 16])[:, :2]


def model_of(*layers, shape=SHAPE):
    return keras.Sequential([keras.Input(shape), *layers])


def dense(units, activation=None):
    return [keras.layers.Flatten(), keras.layers.Dense(units, activation=activation)]


def range_of(*layers):
    return open_keras_model(model_of(*layers, *dense(2))).input_range


def refused(opened, **declared):
    """The one line that refuses a model."""
    with pytest.raises(UserError) as caught:
        adapt(opened, ModelOptions(**declared), probes(SHAPE))
    (line,) = str(caught.value).splitlines()
    return line


def function_of(function, **about):
    return OpenedModel("model", "function", function, **about)


# Inputs.


def test_the_first_layer_tells_the_range_only_if_it_is_certain():
    layers = keras.layers
    assert range_of(layers.Rescaling(1 / 255)) == (0, 255)
    assert range_of(layers.Rescaling(1 / 127.5, offset=-1)) == (0, 255)
    assert range_of(layers.RandomFlip(), layers.Rescaling(1 / 255)) == (0, 255)
    assert range_of(layers.Normalization(mean=[120.0], variance=[60.0**2])) == (0, 255)
    assert range_of(layers.Rescaling(2.0, offset=-1)) == (0, 1)
    assert range_of(layers.Normalization(mean=[0.5], variance=[0.25**2])) == (0, 1)
    assert range_of(layers.Rescaling(0.5)) is None
    assert range_of(layers.Rescaling(-1 / 255)) is None
    assert range_of(layers.BatchNormalization()) is None
    assert range_of() is None


def test_the_range_is_found_in_nested_and_branched_models():
    rescaling = keras.layers.Rescaling(1 / 255)
    inner = model_of(rescaling, keras.layers.Conv2D(2, 3))
    assert range_of(inner) == (0, 255)
    images = keras.Input(SHAPE)
    functional = keras.Model(images, keras.layers.Flatten()(inner(images)))
    assert open_keras_model(functional).input_range == (0, 255)
    # Another layer gets the images as they are.
    images = keras.Input(SHAPE)
    both = keras.layers.Concatenate()([keras.layers.Rescaling(1 / 255)(images), images])
    branched = keras.Model(images, keras.layers.Flatten()(both))
    assert open_keras_model(branched).input_range is None


def test_images_are_scaled_transposed_and_rounded():
    seen = []

    def model(inputs):
        seen.append(inputs.numpy())
        return tf.cast(inputs[:, 0, 0, :2], tf.float32) - 300.0

    images = probes((4, 6, 1))
    opened = function_of(model, input_shape=(1, 4, 6), dtype="uint8", in_graph=False)
    adapted = adapt(opened, ModelOptions(input_range=(0, 255)), images)
    adapted(tf.constant(images))
    np.testing.assert_array_equal(seen[-1], np.round(255 * images).transpose(0, 3, 1, 2))
    assert seen[-1].dtype == np.uint8
    assert adapted.input_shape == (None, 4, 6, 1)
    assert adapted.conversions == (
        "inputs: [0, 1] is scaled to [0, 255] (declared)",
        "inputs: channels last -> channels first",
    )


def test_an_undefined_range_must_be_declared():
    opened = function_of(lambda x: pixels(x) - 5.0)
    assert "set --input-range 0,1 or --input-range 0,255" in refused(opened)
    adapted = adapt(opened, ModelOptions(), probes(SHAPE), assume_range=True)
    assert adapted.is_range_assumed
    assert adapted.conversions == (
        "inputs: [0, 1] is assumed: the model does not define its input range",
    )
    declared = adapt(opened, ModelOptions(input_range=(-1, 1)), probes(SHAPE))
    images = probes(SHAPE)
    np.testing.assert_allclose(
        declared(tf.constant(images)), pixels(2 * images - 1) - 5.0, atol=1e-6
    )


# Outputs.


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: tf.nn.softmax(4.0 * pixels(x)), lambda x: tf.nn.log_softmax(4.0 * pixels(x))),
        (
            lambda x: tf.sigmoid(pixels(x)[:, :1]),
            lambda x: tf.math.log_sigmoid(pixels(x)[:, :1] * [-1.0, 1.0]),
        ),
        (lambda x: tf.one_hot([0] * len(x), 2), lambda x: [[0.0, np.log(FLOOR)]] * len(x)),
    ],
    ids=["several", "one", "rounded to 0"],
)
def test_probabilities_become_logarithms_only_if_declared(function, expected):
    opened, unit = function_of(function), {"input_range": (0, 1)}
    line = refused(opened, **unit)
    assert "look like probabilities" in line
    assert "--outputs probabilities or --outputs logits" in line
    images = probes(SHAPE)
    adapted = adapt(opened, ModelOptions(outputs="probabilities", **unit), images)
    np.testing.assert_allclose(adapted(tf.constant(images)), expected(images), atol=1e-5)


def test_outputs_that_contradict_what_is_declared_are_refused():
    unit = {"input_range": (0, 1)}
    sigmoids = function_of(lambda x: tf.sigmoid(pixels(x)))
    assert "are all between 0 and 1" in refused(sigmoids, **unit)
    assert "are no probabilities" in refused(sigmoids, outputs="probabilities", **unit)
    logits = function_of(lambda x: pixels(x) - 5.0)
    assert "are no probabilities" in refused(logits, outputs="probabilities", **unit)
    softmax = open_keras_model(model_of(*dense(3, "softmax")))
    assert "ends with softmax" in refused(softmax, outputs="logits", **unit)
    single = open_keras_model(model_of(*dense(1, "softmax")))
    assert "always outputs 1" in refused(single, **unit)


def test_one_sigmoid_is_two_classes():
    model = model_of(*dense(1, "sigmoid"))
    adapted = adapt_model(model, input_range=(0, 1))
    images = probes(SHAPE)
    p = np.asarray(model(images))
    np.testing.assert_allclose(
        tf.nn.softmax(adapted(tf.constant(images))), np.hstack([1 - p, p]), atol=1e-6
    )
    assert adapted.output_shape == (None, 2)
    assert adapted.conversions == ("outputs: the last sigmoid is removed, one logit z -> 0, z",)


def test_several_sigmoids_are_attacked_but_have_no_distribution():
    adapted = adapt_model(model_of(*dense(3, "sigmoid")), input_range=(0, 1))
    assert adapted.conversions == ("outputs: the 3 last sigmoids are removed",)
    with pytest.raises(UserError, match="no distribution over the classes"):
        adapted.check_distribution()


def test_models_that_are_no_classifiers_of_one_image_are_refused():
    unit = {"input_range": (0, 1)}
    one, two = keras.Input(SHAPE), keras.Input(SHAPE)
    flat = [keras.layers.Flatten()(images) for images in (one, two)]
    with pytest.raises(UserError, match="has 2 inputs"):
        open_keras_model(keras.Model([one, two], keras.layers.Add()(flat)))
    with pytest.raises(UserError, match="has 2 outputs"):
        open_keras_model(keras.Model(one, [flat[0], one]))
    assert "outputs shape (16,)" in refused(function_of(lambda x: pixels(x)[:, 0]), **unit)
    other = function_of(pixels, input_shape=(16,))
    assert "takes inputs of shape (16,)" in refused(other, **unit)
    with pytest.raises(UserError, match="images of a fixed size"):
        adapt_model(model_of(*dense(2)[:0], shape=(None, None, 1)), **unit)
    with pytest.raises(InvalidSettings, match="outputs: got 'odds'"):
        adapt(function_of(pixels), ModelOptions(outputs="odds"), probes(SHAPE))


# SavedModels.


def save(folder, function, **signature):
    spec = tf.TensorSpec([None, *SHAPE], signature.pop("dtype", tf.float32), name="x")
    traced = tf.function(function, input_signature=[spec])
    tf.saved_model.save(tf.Module(), str(folder), signatures={"serving_default": traced})
    return open_savedmodel(folder)


def test_a_savedmodel_of_uint8_takes_0_to_255(tmp_path):
    opened = save(tmp_path, lambda x: {"y": pixels(x) - 300.0}, dtype=tf.uint8)
    adapted = adapt(opened, ModelOptions(), probes(SHAPE))
    assert adapted.conversions == ("inputs: [0, 1] is scaled to [0, 255] (it takes uint8)",)
    images = probes(SHAPE)
    np.testing.assert_allclose(adapted(images), np.round(255 * pixels(images)) - 300.0)


def test_of_several_outputs_one_must_have_a_known_name(tmp_path):
    with pytest.raises(UserError, match=r"has 2 outputs \(a, b\)"):
        save(tmp_path / "unknown", lambda x: {"a": pixels(x), "b": pixels(x)})
    opened = save(tmp_path / "known", lambda x: {"a": pixels(x), "logits": pixels(x) - 5.0})
    assert opened.outputs == "logits"


# Python.


def test_a_keras_model_is_adapted_where_its_layers_tell():
    plain = model_of(*dense(2))
    assert adapt_keras(plain, probes(SHAPE)) is plain
    of_255 = model_of(keras.layers.Rescaling(1 / 255), *dense(3, "softmax"))
    images = probes(SHAPE)
    labels = np.argmax(of_255(255 * images), axis=1)
    labels[0] = (labels[0] + 1) % 3
    result = srt.evaluate(of_255, (images, labels), [srt.FGSM(0.0)])
    assert result.clean_accuracy == 15 / 16
    assert result.report()["conversions"][0] == LINE


def test_a_model_without_a_graph_is_queried():
    def model(images):
        return pixels(images.numpy()).numpy() - 5.0

    opened = function_of(model, in_graph=False)
    adapted = adapt(opened, ModelOptions(input_range=(0, 1)), probes(SHAPE))
    images = probes(SHAPE)
    labels = model(tf.constant(images)).argmax(axis=1)
    attack = srt.GridAdvT(points=2, max_translation=0.1)
    assert srt.evaluate(adapted, (images, labels), [attack]).clean_accuracy == 1.0
    with pytest.raises(UserError, match="can't be exported or served"):
        adapted.check_exportable()


def test_export_removes_the_softmax_and_scales_the_images(tmp_path):
    model = model_of(keras.layers.Rescaling(1 / 255), *dense(3, "softmax"))
    images = probes(SHAPE)
    made = srt.export(model, tmp_path / "m", ["a", "b", "c"], samples=images)
    loaded = tf.saved_model.load(str(made.savedmodel))
    got = loaded.signatures["image"](image=tf.constant(images))["probabilities"]
    np.testing.assert_allclose(got, model(255 * images), atol=1e-5)
    hidden = model_of(*dense(3, "softmax"), keras.layers.Reshape((3,)))
    with pytest.raises(UserError, match="look like probabilities"):
        srt.export(hidden, tmp_path / "h", ["a", "b", "c"], samples=images)
    with pytest.raises(UserError, match="ends with softmax"):
        srt.export_classifier(model, ["a", "b", "c"], tmp_path / "n", images)
