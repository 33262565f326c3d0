"""SavedModel exporter: outputs agree with the classifier; invalid input affects only itself."""

import numpy as np
import pytest
import tensorflow as tf
from c_api import CApiError, CSession
from encoded import JPEG, PNG, UNREADABLE
from helpers import ROOT, settled

from keras_srt.core.errors import UserError
from keras_srt.core.images import decode_image
from keras_srt.core.tensorflow import keras
from keras_srt.exporters import savedmodel
from keras_srt.exporters.graph_decoding import MAX_BATCH
from keras_srt.exporters.savedmodel import export_savedmodel
from keras_srt.exporters.warmup import WARMUP_FILE, read_warmup

NAMES = ("cat", "Wörter mit Ü", "two\nlines")
OUTPUTS = {"probabilities", "class_id", "class_name", "score", "valid", "classes"}


def make_small_classifier():
    layers = keras.layers
    inputs = keras.Input((8, 8, 1))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, activation="relu")(inputs))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(4).random((12, 8, 8, 1), np.float32)


@pytest.fixture(scope="module")
def classifier(samples):
    keras.utils.set_random_seed(1)
    return settled(make_small_classifier(), samples)


@pytest.fixture(scope="module")
def exported(classifier, samples, tmp_path_factory):
    """Version 1 and its difference from the classifier; read-only."""
    folder = tmp_path_factory.mktemp("saved_models") / "name"
    return export_savedmodel(classifier, NAMES, folder, 1, samples)


@pytest.fixture(scope="module")
def signatures(exported):
    """The signatures of the SavedModel, in Python."""
    loaded = tf.saved_model.load(str(exported[0]))
    yield loaded.signatures
    del loaded


@pytest.fixture(scope="module")
def session(exported):
    """The SavedModel in TensorFlow's C API."""
    made = CSession(exported[0])
    yield made
    made.close()


def probabilities_of(classifier, images):
    return tf.nn.softmax(classifier(images, training=False)).numpy()


def test_outputs_agree_with_the_classifier(exported, signatures, classifier, samples):
    folder, difference = exported
    assert folder.name == "1"
    assert 0 <= difference <= 1e-5
    expected = probabilities_of(classifier, samples)
    for count in (1, 5, 12):
        got = signatures["image"](image=tf.constant(samples[:count]))
        np.testing.assert_allclose(got["probabilities"], expected[:count], atol=1e-5)
    assert set(got) == OUTPUTS
    np.testing.assert_array_equal(got["class_id"], expected.argmax(axis=1))
    np.testing.assert_array_equal(got["score"], np.max(got["probabilities"], axis=1))
    names = [name.decode() for name in got["class_name"].numpy()]
    assert names == [NAMES[i] for i in expected.argmax(axis=1)]
    assert len(set(names)) > 1
    assert got["valid"].numpy().all()
    assert [[name.decode() for name in row] for row in got["classes"].numpy()] == [list(NAMES)] * 12
    logits = signatures["logits"](images=tf.constant(samples))["logits"]
    np.testing.assert_allclose(logits, classifier(samples, training=False), atol=1e-5)


def test_encoded_images_give_the_outputs_of_decoded_images(signatures, classifier):
    images = np.stack([decode_image(data, (8, 8, 1)) for data in (PNG, JPEG)])
    got = signatures["serving_default"](image_bytes=tf.constant([PNG, JPEG]))
    assert set(got) == OUTPUTS
    expected = probabilities_of(classifier, images)
    np.testing.assert_allclose(got["probabilities"], expected, atol=1e-4)
    assert got["valid"].numpy().all()


def assert_invalid(answer, i):
    assert not answer["valid"][i]
    np.testing.assert_array_equal(answer["probabilities"][i], 0)
    assert (answer["class_id"][i], answer["class_name"][i], answer["score"][i]) == (-1, b"", 0)
    assert answer["classes"][i][0] == b"cat"


def test_unreadable_images_are_invalid_and_do_not_affect_others(session):
    alone = session.run({"image_bytes": np.array([PNG], object)})
    bad = list(UNREADABLE.values())
    answer = session.run({"image_bytes": np.array([PNG, *bad, PNG], object)})
    for i in range(1, len(bad) + 1):
        assert_invalid(answer, i)
    for i in (0, -1):
        np.testing.assert_allclose(answer["probabilities"][i], alone["probabilities"][0], atol=1e-6)
        assert answer["valid"][i]


def test_values_out_of_range_are_invalid_and_do_not_affect_others(session, samples):
    alone = session.run({"image": samples[:1]}, "image")
    bad = (np.nan, np.inf, -np.inf, -0.001, 1.001)
    images = np.repeat(samples[:1], len(bad) + 2, axis=0)
    images[1:-1, 3, 4, 0] = bad
    images[-1, 0, 0, 0], images[-1, 0, 1, 0] = 0, 1  # both are in range
    answer = session.run({"image": images}, "image")
    for i in range(1, len(bad) + 1):
        assert_invalid(answer, i)
    assert answer["valid"][[0, -1]].all()
    np.testing.assert_allclose(answer["probabilities"][0], alone["probabilities"][0], atol=1e-6)


def test_outputs_of_a_nan_model_are_invalid(samples, tmp_path):
    broken = make_small_classifier()
    broken.layers[-1].bias.assign([np.nan] * 3)
    labels = tmp_path / "labels.txt"
    labels.write_text("")
    module = savedmodel._serving_module(broken, list(NAMES), labels)
    answer = {name: value.numpy() for name, value in module.serve_image(samples[:2]).items()}
    for i in range(2):
        assert_invalid(answer, i)


@pytest.mark.parametrize("count", [0, MAX_BATCH + 1])
def test_empty_and_too_large_batches_are_refused(count, session):
    feeds = {
        "image": {"image": np.zeros((count, 8, 8, 1), np.float32)},
        "serving_default": {"image_bytes": np.full(count, b"", object)},
    }
    for name, feed in feeds.items():
        with pytest.raises(
            CApiError, match=f"from 1 to {MAX_BATCH} images; got.*{count}"
        ) as raised:
            session.run(feed, name)
        assert raised.value.code == 3  # invalid argument, HTTP 400


def test_c_api_agrees_with_python(session, signatures, samples):
    for name, feed in (
        ("image", {"image": samples}),
        ("serving_default", {"image_bytes": np.array([PNG, b"", JPEG], object)}),
        ("logits", {"images": samples}),
    ):
        expected = signatures[name](**{key: tf.constant(value) for key, value in feed.items()})
        got = session.run(feed, name)
        assert set(got) == set(expected)
        for key, value in expected.items():
            assert got[key].dtype == value.numpy().dtype, key
            if value.dtype == tf.float32:
                np.testing.assert_allclose(got[key], value, atol=1e-6)
            else:
                np.testing.assert_array_equal(got[key], value)


def test_outputs_have_the_batch_first(session):
    """The row format of TF Serving needs the batch first, and known sizes after it."""
    for name in ("serving_default", "image"):
        outputs = session.signatures[name].outputs
        assert set(outputs) == OUTPUTS
        for key, info in outputs.items():
            sizes = [dim.size for dim in info.tensor_shape.dim]
            assert sizes == ([-1, 3] if key in ("probabilities", "classes") else [-1])
            assert not key.endswith("_bytes")  # TF Serving encodes such outputs as base64
    shape = session.signatures["image"].inputs["image"].tensor_shape
    assert [dim.size for dim in shape.dim] == [-1, 8, 8, 1]


def test_files_of_a_version(exported):
    version = exported[0]
    files = {path.relative_to(version).as_posix() for path in version.rglob("*") if path.is_file()}
    assert files == {
        "saved_model.pb",
        "fingerprint.pb",
        "variables/variables.index",
        "variables/variables.data-00000-of-00001",
        "assets/labels.txt",
        "assets.extra/tf_serving_warmup_requests",
    }
    lines = (version / "assets" / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert lines == ["cat", "Wörter mit Ü", "two lines"]
    content = (version / "saved_model.pb").read_bytes()
    # Neither Keras classes nor paths of this machine.
    for junk in (b"_tf_keras", b"KerasLayer", str(ROOT).encode(), b".draft-", b".py"):
        assert junk not in content


def test_warmup_requests_call_both_signatures(exported, session):
    requests = list(read_warmup(exported[0]))
    assert [request.signature for request in requests] == ["serving_default", "image"]
    for request in requests:
        outputs = session.run(dict(request.inputs), request.signature)
        assert len(outputs["valid"]) == 8
        assert outputs["valid"].all()


@pytest.mark.parametrize("damage", ["an input of another name", "no record"])
def test_failing_warmup_is_not_published(damage, classifier, samples, tmp_path, monkeypatch):
    def write(folder, requests):
        if damage == "no record":
            (folder / WARMUP_FILE).parent.mkdir()
            (folder / WARMUP_FILE).write_bytes(b"garbage that is not a TFRecord")
            return
        inputs = {"picture": np.array([PNG], object)}
        original(folder, [requests[0]._replace(inputs=inputs), *requests[1:]])

    original = savedmodel.write_warmup
    monkeypatch.setattr(savedmodel, "write_warmup", write)
    with pytest.raises((tf.errors.OpError, TypeError)):
        export_savedmodel(classifier, NAMES, tmp_path, 1, samples)
    assert list(tmp_path.iterdir()) == []


def test_inconsistent_arguments_are_refused(classifier, samples, tmp_path):
    inputs = keras.Input((8, 8, 2))
    two = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs)))
    for arguments, text in (
        ((two, NAMES, samples), r"\(8, 8, 2\); allowed: .* 1 or 3 channels"),
        ((classifier, NAMES[:2], samples), "class_names: got 2; the classifier has 3"),
        ((classifier, NAMES, samples[:, :7]), r"samples: got shape \(12, 7, 8, 1\)"),
        ((classifier, NAMES, samples[:0]), "samples: .* at least one"),
        ((classifier, NAMES, samples * 255), "from 0 to 1"),
        ((classifier, NAMES, samples * np.nan), "from 0 to 1"),
    ):
        model, names, images = arguments
        with pytest.raises(UserError, match=text):
            export_savedmodel(model, names, tmp_path, 1, images)
    assert list(tmp_path.iterdir()) == []


def test_failed_export_leaves_nothing(classifier, samples, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("differs")

    monkeypatch.setattr(savedmodel, "check_agreement", fail)
    with pytest.raises(RuntimeError, match="differs"):
        export_savedmodel(classifier, NAMES, tmp_path, 1, samples)
    assert list(tmp_path.iterdir()) == []
