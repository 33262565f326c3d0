"""SavedModels answer as the model does, and versions are never touched."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from c_api import CApiError, CSession
from encoded import JPEG, PNG, UNREADABLE
from google.protobuf import text_format
from helpers import ROOT, python, settled
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from keras_srt.core.errors import UserError
from keras_srt.core.images import decode_image
from keras_srt.core.tensorflow import keras
from keras_srt.exporters import export, savedmodel
from keras_srt.exporters.export import export_classifier
from keras_srt.exporters.graph_decoding import MAX_BATCH
from keras_srt.exporters.model_versions import check_agreement, next_version, prune, published
from keras_srt.exporters.savedmodel import export_savedmodel
from keras_srt.exporters.tf_serving_config import model_config, write_model_config
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
    """`saved_models/name` with version 1; tests read it and change nothing."""
    folder = tmp_path_factory.mktemp("saved_models") / "name"
    with pytest.MonkeyPatch.context() as patch:
        # The TFLite files have tests of their own, and take longer than all of these.
        patch.setattr(export, "write_tflite", lambda *_: ())
        return folder, export_classifier(classifier, NAMES, folder, samples)


@pytest.fixture(scope="module")
def signatures(exported):
    """Those of the SavedModel, in Python."""
    loaded = tf.saved_model.load(str(exported[0] / "1"))
    yield loaded.signatures
    del loaded


@pytest.fixture(scope="module")
def session(exported):
    """The SavedModel in TensorFlow's C API."""
    made = CSession(exported[0] / "1")
    yield made
    made.close()


@pytest.fixture
def quick_writers(monkeypatch):
    """Lets `export_classifier` write files that say who wrote them, in no time."""

    def write(name, result):
        def writer(classifier, _, folder, *__):
            (folder / name).write_text(str(classifier))
            return result

        return writer

    monkeypatch.setattr(export, "write_savedmodel", write("saved_model.pb", 0.0))
    monkeypatch.setattr(export, "write_tflite", write("model.tflite", ()))


def probabilities_of(classifier, images):
    return tf.nn.softmax(classifier(images, training=False)).numpy()


def content_of(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# SavedModel.


def test_savedmodel_answers_as_the_model(exported, signatures, classifier, samples):
    folder, outcome = exported
    assert (outcome.version, outcome.savedmodel) == (1, folder / "1")
    assert outcome.tflite == folder / "tflite" / "1"
    assert 0 <= outcome.savedmodel_difference <= 1e-5
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


def test_bytes_are_answered_as_the_decoded_image(signatures, classifier):
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


def test_what_cannot_be_read_spoils_no_other_answer(session):
    alone = session.run({"image_bytes": np.array([PNG], object)})
    bad = list(UNREADABLE.values())
    answer = session.run({"image_bytes": np.array([PNG, *bad, PNG], object)})
    for i in range(1, len(bad) + 1):
        assert_invalid(answer, i)
    for i in (0, -1):
        np.testing.assert_allclose(answer["probabilities"][i], alone["probabilities"][0], atol=1e-6)
        assert answer["valid"][i]


def test_values_out_of_range_spoil_no_other_answer(session, samples):
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


def test_a_model_that_has_become_nan_is_never_valid(samples, tmp_path):
    broken = make_small_classifier()
    broken.layers[-1].bias.assign([np.nan] * 3)
    module = savedmodel._serving_module(broken, list(NAMES), make_labels(tmp_path))
    answer = {name: value.numpy() for name, value in module.serve_image(samples[:2]).items()}
    for i in range(2):
        assert_invalid(answer, i)


def make_labels(folder):
    (folder / "labels.txt").write_text("")
    return folder / "labels.txt"


@pytest.mark.parametrize("count", [0, MAX_BATCH + 1])
def test_a_request_has_some_images_but_not_too_many(count, session):
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


def test_wrong_shapes_are_refused_and_the_server_lives_on(exported):
    # In a process of its own: without its guard a wrong rank ends the process.
    code = f"""
import sys, json, numpy as np
sys.path.insert(0, {str(ROOT / "tests")!r})
from c_api import CApiError, CSession
session = CSession({str(exported[0] / "1")!r})
outcome = []
for shape in [(1,7,8,1),(1,8,9,1),(1,8,8,3),(8,8,1),(1,1,8,8,1),(1,0,0,1),(0,7,7,1),(64,),()]:
    for signature, name in (("image", "image"), ("logits", "images")):
        try:
            session.run({{name: np.zeros(shape, np.float32)}}, signature)
            outcome.append("answered")
        except CApiError as error:
            outcome.append(error.code)
for shape in [(), (1, 1)]:
    try:
        session.run({{"image_bytes": np.full(shape, b"", object)}})
        outcome.append("answered")
    except CApiError as error:
        outcome.append(error.code)
right = session.run({{"image": np.zeros((1, 8, 8, 1), np.float32)}}, "image")
print(json.dumps([outcome, float(right["probabilities"].sum())]))
"""
    process = python("-c", code)
    assert process.returncode == 0, process.stderr
    outcome, total = json.loads(process.stdout)
    assert outcome == [3] * 20
    assert total == pytest.approx(1, abs=1e-5)


def test_the_c_api_answers_as_python_does(session, signatures, samples):
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


def test_row_answers_are_possible(session):
    """TF Serving's row form needs the batch first in every output, and known sizes after it."""
    for name in ("serving_default", "image"):
        outputs = session.signatures[name].outputs
        assert set(outputs) == OUTPUTS
        for key, info in outputs.items():
            sizes = [dim.size for dim in info.tensor_shape.dim]
            assert sizes == ([-1, 3] if key in ("probabilities", "classes") else [-1])
            assert not key.endswith("_bytes")  # those would come back as base64
    shape = session.signatures["image"].inputs["image"].tensor_shape
    assert [dim.size for dim in shape.dim] == [-1, 8, 8, 1]


def test_what_lies_in_a_version(exported):
    version = exported[0] / "1"
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
    # Neither Keras' own classes nor this machine's paths.
    for junk in (b"_tf_keras", b"KerasLayer", str(ROOT).encode(), b".draft-", b".py"):
        assert junk not in content


def test_the_warm_up_asks_both_signatures(exported, session):
    path = exported[0] / "1" / WARMUP_FILE
    records = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(path))
    ]
    assert [record.WhichOneof("log_type") for record in records] == ["predict_log"] * 2
    asked = list(read_warmup(exported[0] / "1"))
    assert [request.signature for request in asked] == ["serving_default", "image"]
    for request in asked:
        answer = session.run(dict(request.inputs), request.signature)
        assert len(answer["valid"]) == 8
        assert answer["valid"].all()


@pytest.mark.parametrize("damage", ["an input of another name", "no record"])
def test_a_warm_up_that_fails_is_not_published(damage, classifier, samples, tmp_path, monkeypatch):
    def write(folder, requests):
        if damage == "no record":
            (folder / WARMUP_FILE).parent.mkdir()
            (folder / WARMUP_FILE).write_bytes(b"garbage, which TF Serving would ignore")
            return
        inputs = {"picture": np.array([PNG], object)}
        original(folder, [requests[0]._replace(inputs=inputs), *requests[1:]])

    original = savedmodel.write_warmup
    monkeypatch.setattr(savedmodel, "write_warmup", write)
    with pytest.raises((tf.errors.OpError, TypeError)):
        export_savedmodel(classifier, NAMES, tmp_path, 1, samples)
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_is_named(classifier, samples, tmp_path):
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


@pytest.mark.slow
def test_saved_model_cli_answers_as_python_does(exported, signatures, samples, tmp_path):
    np.save(tmp_path / "images.npy", samples)
    process = subprocess.run(
        [
            Path(sys.executable).parent / "saved_model_cli",
            *("run", "--dir", exported[0] / "1", "--tag_set", "serve"),
            *("--signature_def", "image", "--inputs", f"image={tmp_path / 'images.npy'}"),
            *("--outdir", tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    expected = signatures["image"](image=tf.constant(samples))
    for name in ("probabilities", "class_id", "score", "valid"):
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), expected[name], atol=1e-6)


# Versions.


def test_next_version(tmp_path):
    assert next_version(tmp_path / "nothing") == 1
    for name in ("2", "10", "tflite", ".draft-x", "v30", "-40"):
        (tmp_path / "a" / name).mkdir(parents=True)
    (tmp_path / "b" / "12").mkdir(parents=True)
    assert next_version(tmp_path / "a") == 11
    assert next_version(tmp_path / "a", tmp_path / "b", tmp_path / "c") == 13


def test_an_existing_version_is_never_touched(classifier, samples, tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "precious").write_text("mine")
    with pytest.raises(UserError, match="never touched"):
        export_savedmodel(classifier, NAMES, tmp_path, 1, samples)
    assert [p.name for p in tmp_path.rglob("*")] == ["1", "precious"]
    assert (tmp_path / "1" / "precious").read_text() == "mine"


@pytest.mark.parametrize("version", [-1, -7])
def test_a_version_is_a_whole_number_from_0(classifier, samples, tmp_path, version):
    with pytest.raises(UserError, match="version"):
        export_classifier(classifier, NAMES, tmp_path, samples, version)
    assert not list(tmp_path.rglob("*.tflite"))


def test_a_failed_export_leaves_nothing(classifier, samples, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("differs")

    monkeypatch.setattr(savedmodel, "check_agreement", fail)
    with pytest.raises(RuntimeError, match="differs"):
        export_savedmodel(classifier, NAMES, tmp_path, 1, samples)
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


def test_a_second_export_leaves_the_first_as_it_is(quick_writers, samples, tmp_path):
    folder = tmp_path / "name"
    export_classifier("first", NAMES, folder, samples)
    before = content_of(folder)
    outcome = export_classifier("second", NAMES, folder, samples)
    assert (outcome.version, outcome.pruned) == (2, ())
    after = content_of(folder)
    assert {path: after[path] for path in before} == before


@pytest.mark.parametrize("failing", ["write_savedmodel", "write_tflite"])
def test_both_formats_appear_or_none(failing, quick_writers, samples, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("differs")

    monkeypatch.setattr(export, failing, fail)
    with pytest.raises(RuntimeError, match="differs"):
        export_classifier("model", NAMES, tmp_path / "name", samples)
    assert not content_of(tmp_path)
    assert next_version(tmp_path / "name", tmp_path / "name" / "tflite") == 1
    monkeypatch.undo()
    (tmp_path / "name" / "tflite" / "1").mkdir()
    with pytest.raises(UserError, match="tflite/1: this version exists"):
        export_classifier("model", NAMES, tmp_path / "name", samples, version=1)
    assert not content_of(tmp_path)


@pytest.mark.parametrize(
    "fault",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        tf.errors.ResourceExhaustedError(
            None, None, "a/.draft-x/variables/part-0; No space left on device [Op:SaveV2]"
        ),
    ],
    ids=["of Python", "of TensorFlow"],
)
def test_a_full_disk_is_one_clear_line(fault, quick_writers, samples, tmp_path, monkeypatch):
    def fail(_, __, folder, *___):
        (folder / "half").write_text("")
        raise fault

    monkeypatch.setattr(export, "write_tflite", fail)
    with pytest.raises(UserError) as raised:
        export_classifier("model", NAMES, tmp_path / "name", samples)
    assert "\n" not in str(raised.value)
    assert "can't be written (No space left on device); nothing was published" in str(raised.value)
    assert not content_of(tmp_path)


def versions(folder):
    return [
        sorted(int(p.name) for p in part.glob("[0-9]*")) for part in (folder, folder / "tflite")
    ]


def test_keep_removes_the_oldest_of_both_formats(quick_writers, samples, tmp_path):
    folder = tmp_path / "name"
    for number in (2, 9, 10):
        export_classifier("old", NAMES, folder, samples, version=number)
    (folder / "notes").mkdir()
    before = content_of(folder / "10")
    outcome = export_classifier("new", NAMES, folder, samples, keep=2)
    assert (outcome.version, outcome.pruned) == (11, (2, 9))
    assert versions(folder) == [[10, 11], [10, 11]]
    assert content_of(folder / "10") == before
    # A new version stays, though it isn't among the highest.
    outcome = export_classifier("new", NAMES, folder, samples, version=5, keep=1)
    assert outcome.pruned == (10,)
    assert versions(folder) == [[5, 11], [5, 11]]
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["11", "5", "notes", "tflite"]


def test_keep_is_checked_before_anything_is_done(quick_writers, samples, tmp_path):
    for keep in (0, -1):
        with pytest.raises(UserError, match=f"keep: got {keep}; allowed: .* at least 1"):
            export_classifier("model", NAMES, tmp_path / "name", samples, keep=keep)
    assert list(tmp_path.iterdir()) == []


def test_prune_takes_a_version_that_one_folder_lacks(tmp_path):
    for name in ("a/1", "a/2", "b/2", "b/3", "a/.draft-x"):
        (tmp_path / name).mkdir(parents=True)
    assert prune([tmp_path / "a", tmp_path / "b", tmp_path / "none"], 1, 3) == [1, 2]
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*"))
    assert left == ["a/.draft-x", "b/3"]


def test_a_killed_export_leaves_no_version(tmp_path):
    code = f"""
import os, pathlib, signal
from keras_srt.exporters.model_versions import published
from keras_srt.core.tensorflow import keras
with published(pathlib.Path({str(tmp_path)!r}), 1) as draft:
    (draft / "saved_model.pb").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert python("-c", code).returncode == -signal.SIGKILL
    (draft,) = tmp_path.iterdir()
    assert draft.name.startswith(".draft-")
    assert next_version(tmp_path) == 1


def test_what_a_killed_export_left_goes_with_time(tmp_path):
    for name, age in ((".draft-old", 25 * 3600), (".draft-new", 3600), ("notes", 10**7)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    with published(tmp_path, 1):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".draft-new", "1", "notes"]


# model.config.


def models_in(text):
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    assert all(model.model_platform == "tensorflow" for model in config.model_config_list.config)
    return {model.name: model.base_path for model in config.model_config_list.config}


def test_model_config_lists_every_model(quick_writers, samples, tmp_path):
    for name in ("b", "a-1.x", "Wörter"):
        outcome = export_classifier("model", NAMES, tmp_path / name, samples)
        assert outcome.model_config == tmp_path / "model.config"
    (tmp_path / "file").touch()
    # None of these is a version.
    for name in ("empty", "other/.draft-1", "other/v1"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "saved_model.pb").touch()
    write_model_config(tmp_path)
    text = (tmp_path / "model.config").read_text(encoding="utf-8")
    expected = {"a-1.x": "/models/a-1.x", "b": "/models/b", "Wörter": "/models/Wörter"}
    assert models_in(text) == expected
    assert (tmp_path / "model.config").stat().st_mode & 0o777 == 0o644
    assert not list(tmp_path.glob(".draft-*"))


def test_model_config_is_replaced_in_one_step(tmp_path):
    (tmp_path / "a" / "1").mkdir(parents=True)
    (tmp_path / "a" / "1" / "saved_model.pb").touch()
    (tmp_path / "model.config").write_text("old")
    with (tmp_path / "model.config").open() as reader:
        write_model_config(tmp_path)
        assert reader.read() == "old"  # who reads it meanwhile has the whole old one
    same = (tmp_path / "model.config").stat().st_mtime_ns
    write_model_config(tmp_path)
    assert (tmp_path / "model.config").stat().st_mtime_ns == same
    assert models_in(model_config(tmp_path)) == {"a": "/models/a"}


def test_agreement():
    expected = np.float32([[0.25, 0.75], [0.5, 0.5]])
    assert check_agreement("x", expected, expected, 0.0) == 0.0
    off = expected + np.float32([[0, 0], [0, 0.125]])
    assert check_agreement("x", expected, off, 0.125) == 0.125
    with pytest.raises(RuntimeError, match=r"x: .* 0\.12, allowed is 0\.1"):
        check_agreement("x", expected, off, 0.1)
    with pytest.raises(RuntimeError, match="nan"):
        check_agreement("x", expected, expected * np.nan, 0.1)
