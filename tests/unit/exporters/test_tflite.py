"""TFLite exporter: outputs agree with the classifier."""

import zipfile
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from helpers import settled
from tensorflow.lite.python import schema_py_generated as schema

from keras_srt.core.tensorflow import keras
from keras_srt.device.model_file import BadModel
from keras_srt.exporters import tflite
from keras_srt.exporters.tflite import export_tflite, tflite_probabilities

NAMES = ("cat", "Wörter mit Ü", "two\nlines")
KINDS = ("float32", "float16", "dynamic", "int8")
every_kind = pytest.mark.parametrize("kind", KINDS)


def make_small_classifier():
    layers = keras.layers
    inputs = keras.Input((8, 8, 2))
    x = layers.BatchNormalization()(layers.Conv2D(8, 3, activation="relu")(inputs))
    # Large enough to be quantized: the converter leaves less than 1,024 weights alone.
    x = layers.Dense(16, activation="relu")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(3, kernel_initializer="he_normal")(x))


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(4).random((40, 8, 8, 2), np.float32)


@pytest.fixture(scope="module")
def classifier(samples):
    keras.utils.set_random_seed(1)
    return settled(make_small_classifier(), samples)


@pytest.fixture(scope="module")
def exported(classifier, samples, tmp_path_factory):
    """Version 1 and its files; read-only."""
    folder = tmp_path_factory.mktemp("saved_models") / "name" / "tflite"
    return export_tflite(classifier, NAMES, folder, 1, samples)


@pytest.fixture
def only_int8(monkeypatch):
    monkeypatch.setattr(tflite, "QUANTIZATIONS", tflite.QUANTIZATIONS[-1:])


def probabilities_of(classifier, images):
    return tf.nn.softmax(classifier(images, training=False)).numpy()


def model_of(path):
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes()))


def test_folder_has_four_files_and_the_labels(exported):
    folder, files = exported
    assert folder.parts[-3:] == ("name", "tflite", "1")
    expected = {f"model_{kind}.tflite" for kind in KINDS} | {"labels.txt"}
    assert {path.name for path in folder.iterdir()} == expected
    assert [file.name for file in files] == list(KINDS)
    assert all(file.published for file in files)


@pytest.mark.parametrize(
    ("kind", "tolerance"), [("float32", 1e-5), ("float16", 1e-2), ("dynamic", 0.1), ("int8", 0.1)]
)
def test_outputs_agree_with_the_classifier(exported, classifier, samples, kind, tolerance):
    folder, files = exported
    expected = probabilities_of(classifier, samples)
    assert set(expected.argmax(axis=1)) == {0, 1, 2}
    got = tflite_probabilities(folder / f"model_{kind}.tflite", samples)
    np.testing.assert_allclose(got, expected, atol=tolerance)
    said = files[KINDS.index(kind)]
    assert said.difference == pytest.approx(np.abs(got - expected).max(), abs=1e-6)
    assert said.share >= 0.9


@every_kind
def test_files_map_one_float_image_to_named_probabilities(exported, kind):
    interpreter = tf.lite.Interpreter(str(exported[0] / f"model_{kind}.tflite"))
    for details, shape in (
        (interpreter.get_input_details(), [1, 8, 8, 2]),
        (interpreter.get_output_details(), [1, 3]),
    ):
        (tensor,) = details
        assert tensor["shape"].tolist() == tensor["shape_signature"].tolist() == shape
        assert tensor["dtype"] == np.float32
    (signature,) = interpreter.get_signature_list().values()
    assert signature == {"inputs": ["images"], "outputs": ["probabilities"]}


@every_kind
def test_files_have_only_builtin_operations(exported, kind):
    codes = model_of(exported[0] / f"model_{kind}.tflite").operatorCodes
    assert codes
    for code in codes:
        assert code.customCode is None
        assert code.builtinCode != schema.BuiltinOperator.CUSTOM


@pytest.mark.parametrize(
    ("kind", "stored", "computed"),
    [
        ("float32", {"FLOAT32"}, {"FLOAT32"}),
        ("float16", {"FLOAT16"}, {"FLOAT32", "FLOAT16"}),
        ("dynamic", {"INT8"}, {"FLOAT32"}),
        ("int8", {"INT8"}, {"INT8"}),
    ],
)
def test_weights_and_activations_have_the_named_type(exported, kind, stored, computed):
    model = model_of(exported[0] / f"model_{kind}.tflite")
    names = {v: k for k, v in vars(schema.TensorType).items() if isinstance(v, int)}
    tensors = model.subgraphs[0].tensors
    large = {names[t.type] for t in tensors if model.buffers[t.buffer].data is not None
             and np.prod(t.shape) >= 1024}  # fmt: skip
    assert large == stored
    activations = [t for t in tensors if model.buffers[t.buffer].data is None]
    ends = {*model.subgraphs[0].inputs, *model.subgraphs[0].outputs}
    inner = {names[t.type] for t in activations if tensors.index(t) not in ends}
    assert inner
    assert inner <= computed


def test_labels_are_beside_the_files_and_inside_them(exported):
    folder, _ = exported
    expected = ["cat", "Wörter mit Ü", "two lines"]
    assert (folder / "labels.txt").read_text(encoding="utf-8").splitlines() == expected
    for kind in KINDS:
        with zipfile.ZipFile(folder / f"model_{kind}.tflite") as archive:
            assert archive.namelist() == ["labels.txt"]
            assert archive.read("labels.txt").decode().splitlines() == expected


def test_quantized_file_that_disagrees_is_not_published(only_int8, classifier, samples, tmp_path):
    # Calibrated on black images, int8 clips every activation of a real image.
    folder, (file,) = export_tflite(classifier, NAMES, tmp_path, 1, samples, 0 * samples[:2])
    assert not file.published
    assert file.share < 0.9
    assert not list(folder.glob("*.tflite"))


def test_quantized_file_that_the_interpreter_refuses_is_not_published(
    only_int8, classifier, samples, tmp_path, monkeypatch
):
    refuse = mock.Mock(side_effect=BadModel("refused"))
    monkeypatch.setattr(tflite, "tflite_probabilities", refuse)
    folder, files = export_tflite(classifier, NAMES, tmp_path, 1, samples)
    assert files == (("int8", 1.0, 0.0, False),)
    assert not (folder / "model_int8.tflite").exists()


def test_float32_file_that_the_interpreter_refuses_is_an_error(
    classifier, samples, tmp_path, monkeypatch
):
    refuse = mock.Mock(side_effect=BadModel("refused"))
    monkeypatch.setattr(tflite, "tflite_probabilities", refuse)
    with pytest.raises(BadModel):
        export_tflite(classifier, NAMES, tmp_path, 1, samples)


def test_classifier_with_a_dead_layer_is_exported(only_int8, samples, tmp_path):
    dead = make_small_classifier()
    dead.layers[1].bias.assign(tf.fill([8], -100.0))  # of the convolution
    _, (file,) = export_tflite(dead, NAMES, tmp_path, 1, samples)
    assert file.name == "int8"


def test_nearly_equal_classes_count_as_the_same_class():
    int8 = tflite.QUANTIZATIONS[-1]
    expected = np.float32([[0.5, 0.48, 0.02], [0.6, 0.3, 0.1]])
    swapped = expected[:, [1, 0, 2]]
    assert tflite._compare(int8, expected, expected) == ("int8", 0.0, 1.0, True)
    # The first is a tie, the second is not.
    _, difference, share, published = tflite._compare(int8, expected, swapped)
    assert (difference, share, published) == (pytest.approx(0.3), 0.5, False)


def test_failed_export_leaves_nothing(classifier, samples, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("differs")

    monkeypatch.setattr(tflite, "check_agreement", fail)
    with pytest.raises(RuntimeError, match="differs"):
        export_tflite(classifier, NAMES, tmp_path, 1, samples)
    assert list(tmp_path.iterdir()) == []
