"""External models: files and servers under attack, and errors of invalid ones."""

import json
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import tensorflow as tf
from helpers import settled
from rest_server import RestServer
from serving_helpers import publish, running

from keras_srt.attacks import ATTACKS, FGSM, PGD, GridAdv, QueryModel, Square
from keras_srt.core.errors import UserError
from keras_srt.core.tensorflow import keras, tf_variable
from keras_srt.data import DatasetInfo
from keras_srt.device.model_file import add_labels
from keras_srt.evaluation.external.open_model import (
    ExternalModel,
    attacks_without_gradients,
    open_model,
)
from keras_srt.evaluation.runner import evaluate_robustness
from keras_srt.exporters.savedmodel import export_savedmodel
from keras_srt.foreign.model_options import ModelOptions
from keras_srt.serving.client import rest_model as client_module

# TensorFlow's own, of each conversion to 8 bits.
pytestmark = pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")

NAMES = ("cat", "dog", "cow")
INFO = DatasetInfo("made up", (8, 8, 1), NAMES, 100, 100)
GRID = GridAdv(grid=(2, 2, 3), max_rotation=4, max_translation=0.3)
SQUARE = Square(epsilon=0.1, queries=20)


def model_of(*last):
    """A small classifier that ends in logits, or in what `last` makes of them."""
    layers = keras.layers
    inputs = keras.Input((8, 8, 1))
    x = layers.Flatten()(layers.Conv2D(4, 3, activation="relu")(inputs))
    x = layers.Dense(3)(x)
    for layer in last:
        x = layer(x)
    return keras.Model(inputs, x)


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(4).random((12, 8, 8, 1), np.float32)


@pytest.fixture(scope="module")
def classifier(samples):
    keras.utils.set_random_seed(1)
    return settled(model_of(), samples)


@pytest.fixture(scope="module")
def logits(classifier, samples):
    return classifier(samples, training=False).numpy()


@pytest.fixture(scope="module")
def savedmodel(classifier, samples, tmp_path_factory):
    return export_savedmodel(classifier, NAMES, tmp_path_factory.mktemp("saved"), 1, samples)[0]


@pytest.fixture(scope="module")
def ours(classifier, samples, tmp_path_factory):
    """The folder of our own TFLite files."""
    folder = tmp_path_factory.mktemp("tflite")
    outputs = keras.layers.Softmax()(classifier.output)
    model = keras.Model(classifier.input, outputs)
    for name, calibration in (("float32", None), ("int8", samples)):
        path = convert(model, folder / f"model_{name}.tflite", calibration)
        add_labels(path, NAMES)
    return folder


def convert(model, path, calibration=None, source=tf.float32, answer=tf.float32):
    """A TFLite file; with images to calibrate on, one that computes with 8 bits."""
    # With the model itself instead, its layers would be traced and saved, too.
    holder = tf.Module()
    holder.weights = [tf_variable(weight) for weight in model.variables]
    images = tf.TensorSpec(model.input_shape, tf.float32)
    traced = tf.function(lambda x: model(x, training=False)).get_concrete_function(images)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], holder)
    if calibration is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([image[None]] for image in calibration)
        converter.inference_input_type, converter.inference_output_type = source, answer
    path.write_bytes(converter.convert())
    return path


def opened(source, samples, info=INFO, **declared):
    return open_model(str(source), info, samples, 5, ModelOptions(**declared))


def refused(source, samples, info=INFO):
    """The one line that says what is wrong with a model."""
    with pytest.raises(UserError) as caught:
        opened(source, samples, info)
    (line,) = str(caught.value).splitlines()
    return line


# Those with gradients.


def test_an_exported_savedmodel_has_logits(savedmodel, classifier, samples, logits):
    model = opened(savedmodel, samples)
    assert model[1:] == ("SavedModel", str(savedmodel), "logits", (), "", (), False)
    assert model.describe()["attacks"] == "all"
    np.testing.assert_allclose(model.model.logits(samples), logits, atol=1e-5)
    one, other = (
        evaluate_robustness(model, samples, logits.argmax(axis=1), [FGSM(epsilon=0.1)])
        for model in (model.model, classifier)
    )
    # Its gradient is the model's.
    images = [outcome.outcomes["fgsm"].images for outcome in (one, other)]
    np.testing.assert_allclose(*images, atol=1e-6)


def test_probabilities_become_logarithms(samples, tmp_path):
    save_module(tmp_path / "scaled", lambda x: 0.5 * tf.nn.softmax(first_pixels(x)) * 2.0)
    line = refused(tmp_path / "scaled", samples)
    assert "outputs look like probabilities" in line
    assert "--outputs probabilities" in line
    model = opened(tmp_path / "scaled", samples, outputs="probabilities")
    assert model.conversions[1:] == ("outputs: probabilities p -> log(p)",)
    assert (model.outputs, model.removed, model.model.has_gradients) == ("probabilities", "", True)
    expected = tf.nn.log_softmax(first_pixels(samples))
    np.testing.assert_allclose(model.model.logits(samples), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("activation", "line"),
    [
        ("softmax", "outputs: the last softmax is removed"),
        ("sigmoid", "outputs: the 3 last sigmoids are removed"),
    ],
)
def test_a_keras_file_goes_without_its_last_activation(
    classifier, samples, logits, tmp_path, activation, line
):
    outputs = keras.layers.Activation(activation)(classifier.output)
    keras.Model(classifier.input, outputs).save(tmp_path / "activation.keras")
    model = opened(tmp_path / "activation.keras", samples)
    conversions = ("inputs: [0, 1] is assumed: the model does not define its input range", line)
    assert model[1:] == ("Keras file", model.source, "logits", (), activation, conversions, True)
    np.testing.assert_allclose(model.model.logits(samples), logits, atol=1e-6)
    classifier.save(tmp_path / "logits.keras")
    same = opened(tmp_path / "logits.keras", samples)
    assert same.outputs == "logits"
    np.testing.assert_allclose(same.model.logits(samples), logits, atol=1e-6)


def test_a_probability_of_0_becomes_the_smallest_number(samples, tmp_path):
    def one_hot(images):
        return tf.one_hot(tf.zeros(tf.shape(images)[0], tf.int32), 3)

    save_module(tmp_path / "one", one_hot)
    answered = opened(tmp_path / "one", samples, outputs="probabilities").model.logits(samples[:1])
    np.testing.assert_allclose(answered, [[0.0, -87.33655, -87.33655]], rtol=1e-6)
    assert np.exp(-87.33655) == pytest.approx(np.finfo(np.float32).tiny, rel=1e-5)


def save_module(folder, function, name="serving_default", spec=None):
    """A SavedModel of one signature, written with TensorFlow alone."""
    spec = spec or tf.TensorSpec([None, 8, 8, 1], tf.float32, name="picture")
    module = tf.Module()
    answer = tf.function(lambda picture: {"scores": function(picture)}, input_signature=[spec])
    tf.saved_model.save(module, str(folder), signatures={name: answer})


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_savedmodel_goes_without_its_last_activation(
    classifier, samples, logits, tmp_path, activation
):
    """Also where it rounds to 0 and 1: PGD finds what it finds on the logits."""
    outputs = keras.layers.Activation(activation)(1000.0 * classifier.output)
    tf.saved_model.save(keras.Model(classifier.input, outputs), str(tmp_path / activation))
    model = opened(tmp_path / activation, samples)
    assert (model.kind, model.outputs, model.removed, model.warnings) == (
        "SavedModel", "logits", activation, (),
    )  # fmt: skip
    assert model.describe()["removed_activation"] == activation
    np.testing.assert_allclose(model.model.logits(samples), 1000 * logits, rtol=1e-4, atol=1e-2)
    attack, labels = PGD(epsilon=0.02, num_steps=5), logits.argmax(axis=1)
    found, wanted = (
        evaluate_robustness(each, samples, labels, [attack]).surviving("pgd")
        for each in (model.model, lambda x: 1000.0 * classifier(x))
    )
    np.testing.assert_array_equal(found, wanted)
    assert 0 < wanted.sum() < len(wanted)


@pytest.mark.parametrize("dtype", [tf.float16, tf.float32])
def test_the_softmax_may_be_cast_and_in_functions(samples, tmp_path, dtype):
    inner = tf.function(lambda x: tf.nn.softmax(tf.cast(first_pixels(x), dtype)))
    save_module(tmp_path / "nested", lambda x: tf.identity(tf.cast(inner(x), tf.float32)))
    model = opened(tmp_path / "nested", samples)
    assert (model.outputs, model.removed) == ("logits", "softmax")
    expected = tf.cast(tf.cast(first_pixels(samples), dtype), tf.float32)
    np.testing.assert_array_equal(model.model.logits(samples), expected)


def test_a_softmax_that_the_graph_needs_elsewhere_stays(samples, tmp_path):
    softmax = tf.function(tf.nn.softmax)
    save_module(tmp_path / "twice", lambda x: softmax(10 * softmax(first_pixels(x))))
    model = opened(tmp_path / "twice", samples, outputs="probabilities")
    assert (model.outputs, model.removed) == ("probabilities", "")


def first_pixels(images):
    return tf.reshape(images, [-1, 64])[:, :3] - 5.0


def test_a_savedmodel_with_its_own_signature(samples, tmp_path):
    save_module(tmp_path / "own", first_pixels)
    got = opened(tmp_path / "own", samples).model.logits(samples)
    np.testing.assert_allclose(got, samples.reshape(12, -1)[:, :3] - 5.0, atol=1e-6)
    tf.saved_model.save(tf.Module(), str(tmp_path / "none"))
    line = refused(tmp_path / "none", samples)
    assert "none of the signatures logits, image, serving_default" in line


@pytest.mark.parametrize("name", ["serving_default", "image"])
def test_a_savedmodel_of_encoded_images_is_refused(name, samples, tmp_path):
    spec = tf.TensorSpec([None], tf.string, name="image_bytes")
    save_module(tmp_path / "bytes", lambda data: tf.zeros([tf.size(data), 3]), name, spec)
    assert f"{name!r} takes encoded images" in refused(tmp_path / "bytes", samples)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: tf.cast(tf.cast(255 * first_pixels(x), tf.int32), tf.float32),
        lambda x: tf.stop_gradient(first_pixels(x)),
        lambda x: tf.cast(tf.argsort(tf.reshape(x, [-1, 64])[:, :3]), tf.float32),
    ],
    ids=["integers", "stopped", "ranks"],
)
def test_a_savedmodel_without_gradients_is_a_query_model(function, samples, tmp_path):
    save_module(tmp_path / "flat", function)
    model = opened(tmp_path / "flat", samples)
    assert isinstance(model.model, QueryModel)
    assert model.warnings == (
        "no gradient flows through the model; attacks can only query its predictions",
    )
    np.testing.assert_allclose(model.model.logits(samples), function(samples))
    labels = model.model.logits(samples).argmax(axis=1)
    outcome = evaluate_robustness(model.model, samples, labels, [SQUARE])
    assert len(outcome.outcomes["square"].classes) == 12


def test_a_zero_gradient_causes_a_warning(samples, tmp_path):
    save_module(tmp_path / "steps", lambda x: first_pixels(tf.round(x) + 0.0 * x))
    model = opened(tmp_path / "steps", samples)
    assert model.model.has_gradients
    (warning,) = model.warnings
    assert warning.startswith("the gradient of the model's cross-entropy is 0 at all 12 images")
    save_module(tmp_path / "smooth", first_pixels)
    assert opened(tmp_path / "smooth", samples).warnings == ()


# TFLite files.


@pytest.mark.parametrize(("kind", "within"), [("float32", 1e-5), ("int8", 0.05)])
def test_exported_tflite_files_have_log_probabilities(ours, samples, logits, kind, within):
    model = opened(ours / f"model_{kind}.tflite", samples)
    assert (model.kind, model.outputs, model.model.has_gradients) == (
        "TFLite file", "probabilities", False,
    )  # fmt: skip
    probabilities = np.exp(model.model.logits(samples))
    np.testing.assert_allclose(probabilities, tf.nn.softmax(logits), atol=within)
    # Batches of 5, 5 and 2: all images arrive.
    assert model.model.queries == 12


@pytest.mark.parametrize(
    ("source", "answer"), [(tf.int8, tf.uint8), (tf.uint8, tf.int8), (tf.float32, tf.int8)]
)
def test_tensors_of_8_bits_are_scaled(classifier, samples, logits, tmp_path, source, answer):
    # As others write them: without labels inside, and with tensors of 8 bits.
    path = convert(classifier, tmp_path / "other.tflite", samples, source, answer)
    model = opened(path, samples)
    assert model.outputs == "logits"
    spread = logits.max() - logits.min()
    np.testing.assert_allclose(model.model.logits(samples), logits, atol=0.05 * spread)


def test_a_query_attack_on_the_file_equals_that_on_the_model(ours, classifier, samples, logits):
    model = opened(ours / "model_float32.tflite", samples).model
    outcomes = [
        evaluate_robustness(model, samples, logits.argmax(axis=1), [GRID, SQUARE])
        for model in (model, classifier)
    ]
    # Which of two nearly equal answers wins, rounding decides.
    of_file, of_model = (outcome.surviving("gridadv") for outcome in outcomes)
    np.testing.assert_array_equal(of_file, of_model)
    assert 0 < of_file.sum() < 12
    assert set(outcomes[0].outcomes) == {"gridadv", "square"}


def test_invalid_tflite_files_are_refused(ours, samples, tmp_path):
    file, content = tmp_path / "x.tflite", (ours / "model_float32.tflite").read_bytes()
    assert "can't be read" in refused(file, samples)
    file.write_bytes(b"no such thing")
    assert "is no TFLite model" in refused(file, samples)
    file.write_bytes(content[:500])
    assert "is damaged" in refused(file, samples)
    file.write_bytes(content.replace(content[600:604], b"\0\1\2\3", 1))
    assert "is damaged" in refused(file, samples)
    other = INFO._replace(input_shape=(9, 9, 1))
    line = refused(ours / "model_float32.tflite", np.zeros((2, 9, 9, 1), np.float32), other)
    assert "(8, 8, 1)" in line
    assert "(9, 9, 1)" in line
    line = refused(ours / "model_float32.tflite", samples, INFO._replace(class_names=("a", "b")))
    assert "2 classes" in line


def test_integers_without_a_scale_are_refused(samples, tmp_path):
    class Counts(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([1, 8, 8, 1], tf.float32)])
        def __call__(self, images):
            return tf.cast(tf.reshape(images, [1, 64])[:, :3], tf.int32)

    module = Counts()
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.__call__.get_concrete_function()], module
    )
    path = tmp_path / "counts.tflite"
    path.write_bytes(converter.convert())
    add_labels(path, NAMES)
    assert "int32 with the scale 0" in refused(path, samples)


# Servers.


class FloatServer(RestServer):
    """A stand-in for TensorFlow Serving whose model takes floats; `spoil` changes its rows."""

    def __init__(self):
        super().__init__()
        info = {"dtype": "DT_FLOAT"}
        self.signatures = {"logits": {"inputs": {"images": info}, "outputs": {}}}
        self.spoil, self.paths = list, []

    def reply(self, method, path, body):
        self.paths.append(path)
        if not path.endswith(":predict"):
            return super().reply(method, path, body)
        self.bodies.append(body)
        if self.hang:
            self.released.wait(60)
        pixels = np.array([row["images"] for row in body["instances"]])
        rows = (pixels.reshape(len(pixels), -1)[:, :3] - 5.0).tolist()
        return 200, {"predictions": self.spoil(rows)}


@contextmanager
def serving():
    with FloatServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()


@pytest.fixture
def server():
    with serving() as started:
        yield started


@pytest.fixture
def address(server):
    return f"{server.url}/v1/models/bright"


def test_a_server_gets_exact_floats_for_one_version(server, address, samples):
    model = opened(address, samples)
    assert (model.kind, model.outputs, model.model.has_gradients) == ("server", "logits", False)
    expected = samples.reshape(12, -1)[:, :3] - 5.0
    np.testing.assert_array_equal(model.model.logits(samples), np.float32(expected))
    sent = np.float32([row["images"] for row in server.bodies[0]["instances"]])
    np.testing.assert_array_equal(sent, samples)
    assert server.bodies[0]["signature_name"] == "logits"
    assert set(server.paths[1:]) == {"/v1/models/bright/versions/3:predict"}


def test_many_images_go_in_several_requests(server, address, samples):
    model = opened(address, samples)
    del server.bodies[:]
    model.model.batch_size = 700
    many = np.tile(samples, (50, 1, 1, 1))
    assert model.model.logits(many).shape == (600, 3)
    assert [len(body["instances"]) for body in server.bodies] == [256, 256, 88]


def test_keras_srt_serve_can_be_attacked(samples, tmp_path):
    levels = np.float32(np.linspace(0.03, 0.99, 13))[:, None, None, None]
    images = np.broadcast_to(levels, (13, 8, 8, 1))
    with running(publish(tmp_path / "standin", 1)) as served:
        model = opened(f"{served.url}/v1/models/standin", images)
        assert model.outputs == "logits"
        # Its signature `logits` gives the mean brightness times 1, 2 and 3.
        np.testing.assert_allclose(
            model.model.logits(images), levels[:, :, 0, 0] * [1, 2, 3], rtol=1e-6
        )
        outcome = evaluate_robustness(model.model, images, np.full(13, 2), [SQUARE])
        # Where the noise makes an image black, all three are 0.
        np.testing.assert_array_equal(outcome.surviving("square"), levels[:, 0, 0, 0] > 0.1)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda rows: [[float("nan")] * 3 for _ in rows], "NaN"),
        (lambda rows: [[None] * 3 for _ in rows], "NaN"),
        (lambda rows: [{"probabilities": [0.0] * 3, "valid": False} for _ in rows], "NaN"),
        (lambda rows: rows[:-1], "has no row of numbers for each"),
        (lambda rows: [rows[0][:2], *rows[1:]], "has no row of numbers for each"),
        (lambda rows: [["a", "b", "c"] for _ in rows], "has no row of numbers for each"),
        (lambda rows: [{} for _ in rows], "has no row of numbers for each"),
        (lambda rows: {"rows": rows}, "has no row of numbers for each"),
        (lambda rows: [row[:2] for row in rows], "one value for each of the 3 classes"),
    ],
    ids=["NaN", "null", "invalid", "one too few", "ragged", "text", "empty", "an object", "2"],
)
def test_invalid_responses_are_refused(server, address, samples, spoil, words):
    server.spoil = spoil
    assert words in refused(address, samples)


def test_named_outputs_are_distinguished(server, address, samples):
    server.spoil = lambda rows: [{"classes": ["a"] * 3, "logits": row} for row in rows]
    expected = samples.reshape(12, -1)[:, :3] - 5.0
    np.testing.assert_allclose(opened(address, samples).model.logits(samples), expected)
    server.spoil = lambda rows: [{"scores": row} for row in rows]
    np.testing.assert_allclose(opened(address, samples).model.logits(samples), expected)


def test_a_server_of_encoded_images_is_refused(server, address, samples):
    server.signatures = {"serving_default": {"inputs": {"image_bytes": {"dtype": "DT_STRING"}}}}
    assert "takes images as floats" in refused(address, samples)


def test_an_unreachable_or_slow_server_is_refused(server, address, samples, monkeypatch):
    assert "404" in refused(f"{server.url}/v1/models/other", samples)
    assert "/v1/models/NAME" in refused(f"{server.url}/predict", samples)
    nobody = "http://127.0.0.1:9/v1/models/bright"
    assert "can't be reached" in refused(nobody, samples)
    monkeypatch.setattr(client_module, "_BUSY_RETRIES", 1)
    server.hang = True
    slow = open_slowly(address, samples)
    assert "can't be reached" in slow
    assert "timed out" in slow


def open_slowly(address, samples):
    from keras_srt.serving.client.float_client import FloatClient

    client = FloatClient(address, timeout=0.2)
    with pytest.raises(UserError) as caught:
        client.predict(samples)
    (line,) = str(caught.value).splitlines()
    return line


def test_a_server_error_stops_the_evaluation(server, address, samples):
    model = opened(address, samples).model
    left = iter([True] * 4)
    server.spoil = lambda rows: rows if next(left, False) else [[float("nan")] * 3] * len(rows)
    with pytest.raises(UserError, match="outputs NaN"):
        evaluate_robustness(model, samples, np.zeros(12), [GRID])


# What is possible, and what isn't.


def test_attacks_without_gradients():
    names = attacks_without_gradients()
    assert {"randadv", "gridadv_t", "square", "pointwise"} <= set(names)
    assert not {"fgsm", "pgd", "cw", "apgd_ce", "autoattack", "pgd_plus"} & set(names)


def test_gradient_attacks_are_refused_with_alternatives():
    model = ExternalModel(QueryModel(lambda x: x), "TFLite file", "m.tflite", "logits")
    model.check_attacks([SQUARE, GRID])
    with pytest.raises(UserError) as caught:
        model.check_attacks([FGSM(epsilon=0.3), GRID, ATTACKS.build({"name": "pgd@0.3"})])
    (line,) = str(caught.value).splitlines()
    assert line.startswith("--attacks: fgsm, pgd need gradients, and a TFLite file shows none")
    given = line.rpartition("give --attacks ")[2].split(",")
    assert {"square@0.3", "gridadv", "randadv_r"} <= set(given)
    assert [ATTACKS.build({"name": name}).needs_gradients for name in given] == [False] * len(given)


def test_the_report_describes_the_model():
    model = ExternalModel(
        QueryModel(lambda x: x), "server", "http://h/v1/models/m", "probabilities"
    )
    described = json.loads(json.dumps(model.describe()))
    assert described == {
        "kind": "server",
        "source": "http://h/v1/models/m",
        "answers": "probabilities",
        "removed_activation": "",
        "conversions": [],
        "gradients": False,
        "attacks": attacks_without_gradients(),
        "warnings": [],
    }


# What can't be loaded.


def test_a_file_that_can_not_be_loaded_is_refused(samples, tmp_path):
    (tmp_path / "broken.keras").write_bytes(b"PK no archive")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "saved_model.pb").write_bytes(b"no protobuf")
    (tmp_path / "weights.h5").write_bytes(b"")
    for name in ("nothing", "nothing.keras", "broken.keras", "broken", "weights.h5", "."):
        assert "--model" in refused(tmp_path / name, samples)


def test_a_model_that_runs_code_is_refused(samples, tmp_path):
    model_of(keras.layers.Lambda(lambda x: x * 2)).save(tmp_path / "lambda.keras")
    assert "lambda.keras" in refused(tmp_path / "lambda.keras", samples)


def test_a_model_that_does_not_fit_the_dataset_is_refused(
    classifier, savedmodel, samples, tmp_path
):
    classifier.save(tmp_path / "model.keras")
    for path in (tmp_path / "model.keras", savedmodel):
        two = INFO._replace(class_names=("a", "b"))
        assert "2 classes" in refused(path, samples, two)
        large = INFO._replace(input_shape=(9, 9, 2))
        assert "(9, 9, 2)" in refused(path, np.zeros((2, 9, 9, 2), np.float32), large)
