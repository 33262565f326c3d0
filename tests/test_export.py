"""Exports answer as the model does, versions are never touched, and foreign models load."""

import json

import numpy as np
import pytest
import tensorflow as tf
from helpers import python

from keras_srt.attacks import FGSM
from keras_srt.checks import UserError
from keras_srt.data import DatasetInfo
from keras_srt.evaluation import evaluate_robustness
from keras_srt.export import (
    export_classifier,
    export_savedmodel,
    export_tflite,
    next_version,
    savedmodel,
    tflite,
    tflite_probabilities,
)
from keras_srt.export.publish import check_agreement, published
from keras_srt.foreign import load_classifier

NAMES = ("cat", "Wörter mit Ü", "two\nlines")
INFO = DatasetInfo("made up", (8, 8, 2), NAMES, 100, 100)


def make_small_classifier():
    layers = tf.keras.layers
    inputs = tf.keras.Input((8, 8, 2))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, activation="relu")(inputs))
    return tf.keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(4).random((12, 8, 8, 2), np.float32)


@pytest.fixture(scope="module")
def classifier(samples):
    tf.keras.utils.set_random_seed(1)
    made = make_small_classifier()
    made(samples, training=True)  # BatchNorm statistics that are not those of the start
    # Each class is the answer to some of the samples.
    made.layers[-1].bias.assign(-tf.reduce_mean(made(samples, training=False), axis=0))
    return made


@pytest.fixture(scope="module")
def exported(classifier, samples, tmp_path_factory):
    """`saved_models/name` with version 1; tests read it and change nothing."""
    folder = tmp_path_factory.mktemp("saved_models") / "name"
    return folder, export_classifier(classifier, NAMES, folder, samples)


def probabilities_of(classifier, images):
    return tf.nn.softmax(classifier(images, training=False)).numpy()


def content_of(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# SavedModel.


def test_savedmodel_answers_as_the_model(exported, classifier, samples):
    folder, outcome = exported
    assert (outcome.version, outcome.savedmodel) == (1, folder / "1")
    loaded = tf.saved_model.load(str(folder / "1"))
    expected = probabilities_of(classifier, samples)
    got = loaded.signatures["serving_default"](images=tf.constant(samples))
    assert set(got) == {"probabilities", "class_id", "class_name"}
    np.testing.assert_allclose(got["probabilities"], expected, atol=1e-5)
    np.testing.assert_array_equal(got["class_id"], expected.argmax(axis=1))
    assert got["class_id"].dtype == tf.int32
    names = [name.decode() for name in got["class_name"].numpy()]
    assert names == [NAMES[i] for i in expected.argmax(axis=1)]
    assert len(set(names)) > 1
    logits = loaded.signatures["logits"](images=tf.constant(samples))["logits"]
    np.testing.assert_allclose(logits, classifier(samples, training=False), atol=1e-5)
    assert 0 <= outcome.savedmodel_difference <= 1e-5
    for count in (1, 5):
        got = loaded.signatures["serving_default"](images=tf.constant(samples[:count]))
        np.testing.assert_allclose(got["probabilities"], expected[:count], atol=1e-5)


def test_wrong_shapes_are_refused_and_the_server_lives_on(exported):
    folder, _ = exported
    code = f"""
import json, numpy as np, tensorflow as tf
signature = tf.saved_model.load({str(folder / "1")!r}).signatures["serving_default"]
outcome = []
for shape in [(1,7,8,2),(1,8,9,2),(1,8,8,1),(1,8,8,3),(8,8,2),(1,1,8,8,2),(1,0,0,2),(0,7,7,2),()]:
    try:
        signature(images=tf.zeros(shape))
        outcome.append("answered")
    except (ValueError, TypeError, tf.errors.OpError) as error:
        outcome.append("refused")
right = signature(images=tf.zeros((1, 8, 8, 2)))
print(json.dumps([outcome, float(tf.reduce_sum(right["probabilities"]))]))
"""
    process = python("-c", code)
    assert process.returncode == 0, process.stderr
    outcome, total = json.loads(process.stdout)
    assert outcome == ["refused"] * 9
    assert total == pytest.approx(1, abs=1e-5)


# TFLite.


def test_tflite_answers_as_the_model(exported, classifier, samples):
    folder, outcome = exported
    assert outcome.tflite == folder / "tflite" / "1"
    got = tflite_probabilities(outcome.tflite / "model_float32.tflite", samples)
    np.testing.assert_allclose(got, probabilities_of(classifier, samples), atol=1e-5)
    assert 0 <= outcome.tflite_difference <= 1e-5
    details = tf.lite.Interpreter(str(outcome.tflite / "model_float32.tflite"))
    assert details.get_input_details()[0]["shape"].tolist() == [1, 8, 8, 2]


def test_labels_have_a_line_for_each_class(exported):
    lines = (exported[1].tflite / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert lines == ["cat", "Wörter mit Ü", "two lines"]


# Versions.


def test_next_version(tmp_path):
    assert next_version(tmp_path / "nothing") == 1
    for name in ("2", "10", "tflite", ".draft-x", "v30", "-40"):
        (tmp_path / "a" / name).mkdir(parents=True)
    (tmp_path / "b" / "12").mkdir(parents=True)
    assert next_version(tmp_path / "a") == 11
    assert next_version(tmp_path / "a", tmp_path / "b", tmp_path / "c") == 13


@pytest.mark.parametrize("export", [export_savedmodel, export_tflite])
def test_an_existing_version_is_never_touched(export, classifier, samples, tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "precious").write_text("mine")
    with pytest.raises(UserError, match="never touched"):
        export(classifier, NAMES, tmp_path, 1, samples)
    assert [p.name for p in tmp_path.rglob("*")] == ["1", "precious"]
    assert (tmp_path / "1" / "precious").read_text() == "mine"


@pytest.mark.parametrize("version", [-1, -7])
def test_a_version_is_a_whole_number_from_0(classifier, samples, tmp_path, version):
    with pytest.raises(UserError, match="version"):
        export_classifier(classifier, NAMES, tmp_path, samples, version)
    assert not list(tmp_path.rglob("*.tflite"))


@pytest.mark.parametrize(
    ("export", "module"), [(export_savedmodel, savedmodel), (export_tflite, tflite)]
)
def test_a_failed_export_leaves_nothing(export, module, classifier, samples, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("differs")

    monkeypatch.setattr(module, "check_agreement", fail)
    with pytest.raises(RuntimeError, match="differs"):
        export(classifier, NAMES, tmp_path, 1, samples)
    assert list(tmp_path.iterdir()) == []


def test_a_version_appears_whole_or_not_at_all(tmp_path):
    with published(tmp_path, 3) as draft:
        (draft / "half").write_text("")
        assert not (tmp_path / "3").exists()
        assert not draft.name.isdecimal()
        assert draft.parent == tmp_path  # one file system, so that the rename is atomic
    assert [p.name for p in tmp_path.iterdir()] == ["3"]
    assert (tmp_path / "3").stat().st_mode & 0o777 == 0o755


def test_of_two_exports_of_one_version_the_first_stays(tmp_path):
    def second():
        with published(tmp_path, 1) as slow:
            (slow / "file").write_text("second")
            with published(tmp_path, 1) as fast:
                (fast / "file").write_text("first")

    with pytest.raises((UserError, OSError)):
        second()
    assert [p.name for p in tmp_path.iterdir()] == ["1"]
    assert (tmp_path / "1" / "file").read_text() == "first"


def test_a_file_in_the_way_of_the_folder(classifier, samples, tmp_path):
    (tmp_path / "occupied").write_text("mine")
    with pytest.raises(UserError, match="can't be written"):
        export_classifier(classifier, NAMES, tmp_path / "occupied", samples)
    assert (tmp_path / "occupied").read_text() == "mine"


def test_a_second_export_leaves_the_first_as_it_is(classifier, samples, tmp_path):
    folder = tmp_path / "name"
    export_classifier(classifier, NAMES, folder, samples)
    before = content_of(folder)
    outcome = export_classifier(classifier, NAMES, folder, samples)
    assert outcome.version == 2
    after = content_of(folder)
    assert {path: after[path] for path in before} == before


def test_agreement():
    expected = np.float32([[0.25, 0.75], [0.5, 0.5]])
    assert check_agreement("x", expected, expected, 0.0) == 0.0
    off = expected + np.float32([[0, 0], [0, 0.125]])
    assert check_agreement("x", expected, off, 0.125) == 0.125
    with pytest.raises(RuntimeError, match=r"x: .* 0\.12, allowed is 0\.1"):
        check_agreement("x", expected, off, 0.1)
    with pytest.raises(RuntimeError, match="nan"):
        check_agreement("x", expected, expected * np.nan, 0.1)


# Models that come from elsewhere.


def test_our_savedmodel_comes_back_as_logits(exported, classifier, samples):
    loaded = load_classifier(exported[0] / "1", INFO)
    np.testing.assert_allclose(
        loaded(tf.constant(samples)), classifier(samples, training=False), atol=1e-5
    )
    labels = np.argmax(classifier(samples, training=False), axis=1)
    one, other = (
        evaluate_robustness(model, samples, labels, [FGSM(epsilon=0.1)]).verdicts["fgsm"].images
        for model in (loaded, classifier)
    )
    # Its gradient is the model's.
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_softmax_in_a_keras_file_is_taken_back(classifier, samples, tmp_path, capsys):
    path = tmp_path / "softmax.keras"
    outputs = tf.keras.layers.Softmax()(classifier.output)
    tf.keras.Model(classifier.input, outputs).save(path)
    loaded = load_classifier(path, INFO)
    assert "probabilities" in capsys.readouterr().out
    expected = tf.nn.log_softmax(classifier(samples, training=False))
    np.testing.assert_allclose(loaded(tf.constant(samples)), expected, atol=1e-5)
    classifier.save(tmp_path / "logits.keras")
    same = load_classifier(tmp_path / "logits.keras", INFO)(tf.constant(samples))
    np.testing.assert_allclose(same, classifier(samples, training=False), atol=1e-6)
    assert capsys.readouterr().out == ""


def test_what_cannot_be_loaded_is_named(classifier, tmp_path):
    (tmp_path / "broken.keras").write_bytes(b"PK no archive")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "saved_model.pb").write_bytes(b"no protobuf")
    (tmp_path / "weights.h5").write_bytes(b"")
    for name in ("nothing", "nothing.keras", "broken.keras", "broken", "weights.h5", "."):
        with pytest.raises(UserError, match="--model"):
            load_classifier(tmp_path / name, INFO)


def test_a_model_that_runs_code_is_refused(tmp_path):
    inputs = tf.keras.Input((8, 8, 2))
    outputs = tf.keras.layers.Dense(3)(tf.keras.layers.Flatten()(inputs))
    outputs = tf.keras.layers.Lambda(lambda x: x * 2)(outputs)
    tf.keras.Model(inputs, outputs).save(tmp_path / "lambda.keras")
    with pytest.raises(UserError, match=r"lambda\.keras"):
        load_classifier(tmp_path / "lambda.keras", INFO)


def test_a_model_that_does_not_fit_the_dataset_is_refused(classifier, exported, tmp_path):
    classifier.save(tmp_path / "model.keras")
    for path in (tmp_path / "model.keras", exported[0] / "1"):
        with pytest.raises(UserError, match="2 classes"):
            load_classifier(path, INFO._replace(class_names=("a", "b")))
        with pytest.raises(UserError, match=r"\(9, 9, 2\)"):
            load_classifier(path, INFO._replace(input_shape=(9, 9, 2)))


def test_a_savedmodel_with_a_signature_of_its_own(samples, tmp_path):
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 2], tf.float32, name="picture")])
    def answer(picture):
        return {"scores": tf.reshape(picture, [-1, 128])[:, :3] - 5.0}

    tf.saved_model.save(module, str(tmp_path / "own"), signatures={"serving_default": answer})
    got = load_classifier(tmp_path / "own", INFO)(tf.constant(samples))
    np.testing.assert_allclose(got, samples.reshape(12, -1)[:, :3] - 5.0, atol=1e-6)
    tf.saved_model.save(module, str(tmp_path / "none"))
    with pytest.raises(UserError, match="signature"):
        load_classifier(tmp_path / "none", INFO)
