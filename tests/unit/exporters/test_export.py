"""Exporting all formats as one version."""

import errno
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.core import files
from keras_srt.core.errors import UserError
from keras_srt.core.sample_images import SampleImages, read_samples
from keras_srt.exporters import export
from keras_srt.exporters.export import export_classifier
from keras_srt.exporters.model_versions import next_version

NAMES = ("cat", "dog")
SAMPLES = np.zeros((1, 2, 2, 1), np.float32)


@pytest.fixture
def fake_writers(monkeypatch):
    """Replace the exporters by functions that write the name of the classifier to a file."""

    def write(name, result):
        def writer(classifier, _, folder, *__):
            (folder / name).write_text(str(classifier))
            return result

        return writer

    monkeypatch.setattr(export, "write_savedmodel", write("saved_model.pb", 0.0))
    monkeypatch.setattr(export, "write_tflite", write("model.tflite", ()))


def content_of(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "occupied").write_text("mine")
    with pytest.raises(UserError, match="can't be written"):
        export_classifier("model", NAMES, tmp_path / "occupied", SAMPLES)
    assert (tmp_path / "occupied").read_text() == "mine"


def test_second_export_does_not_change_the_first(fake_writers, tmp_path):
    folder = tmp_path / "name"
    export_classifier("first", NAMES, folder, SAMPLES)
    before = content_of(folder)
    outcome = export_classifier("second", NAMES, folder, SAMPLES)
    assert (outcome.version, outcome.pruned) == (2, ())
    after = content_of(folder)
    assert {path: after[path] for path in before} == before


@pytest.mark.parametrize("failing", ["write_savedmodel", "write_tflite"])
def test_both_formats_appear_or_none(failing, fake_writers, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("differs")

    monkeypatch.setattr(export, failing, fail)
    with pytest.raises(RuntimeError, match="differs"):
        export_classifier("model", NAMES, tmp_path / "name", SAMPLES)
    assert not content_of(tmp_path)
    assert next_version(tmp_path / "name", tmp_path / "name" / "tflite") == 1
    monkeypatch.undo()
    (tmp_path / "name" / "tflite" / "1").mkdir()
    with pytest.raises(UserError, match="tflite/1: this version exists"):
        export_classifier("model", NAMES, tmp_path / "name", SAMPLES, version=1)
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
def test_full_disk_is_a_one_line_error(fault, fake_writers, tmp_path, monkeypatch):
    def fail(_, __, folder, *___):
        (folder / "half").write_text("")
        raise fault

    monkeypatch.setattr(export, "write_tflite", fail)
    with pytest.raises(UserError) as raised:
        export_classifier("model", NAMES, tmp_path / "name", SAMPLES)
    assert "\n" not in str(raised.value)
    assert "can't be written (No space left on device); nothing was published" in str(raised.value)
    assert not content_of(tmp_path)


def versions(folder):
    return [
        sorted(int(p.name) for p in part.glob("[0-9]*")) for part in (folder, folder / "tflite")
    ]


def test_keep_removes_the_oldest_versions_of_both_formats(fake_writers, tmp_path):
    folder = tmp_path / "name"
    for number in (2, 9, 10):
        export_classifier("old", NAMES, folder, SAMPLES, version=number)
    (folder / "notes").mkdir()
    before = content_of(folder / "10")
    outcome = export_classifier("new", NAMES, folder, SAMPLES, keep=2)
    assert (outcome.version, outcome.pruned) == (11, (2, 9))
    assert versions(folder) == [[10, 11], [10, 11]]
    assert content_of(folder / "10") == before
    # A new version is kept even if its number is not among the highest.
    outcome = export_classifier("new", NAMES, folder, SAMPLES, version=5, keep=1)
    assert outcome.pruned == (10,)
    assert versions(folder) == [[5, 11], [5, 11]]
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["11", "5", "notes", "tflite"]


def test_keep_is_checked_first(fake_writers, tmp_path):
    for keep in (0, -1):
        with pytest.raises(UserError, match=f"keep: got {keep}; allowed: .* at least 1"):
            export_classifier("model", NAMES, tmp_path / "name", SAMPLES, keep=keep)
    assert list(tmp_path.iterdir()) == []


def test_export_writes_model_config(fake_writers, tmp_path):
    result = export_classifier("model", NAMES, tmp_path / "name", SAMPLES)
    assert (result.version, result.savedmodel) == (1, tmp_path / "name" / "1")
    assert result.tflite == tmp_path / "name" / "tflite" / "1"
    assert result.model_config == tmp_path / "model.config"
    assert '"/models/name"' in result.model_config.read_text()


def test_sample_images_are_published_with_the_version(fake_writers, tmp_path):
    shown = SampleImages(np.uint8([[[[0]]], [[[255]]]]), ["dark", "light"])
    result = export_classifier("model", NAMES, tmp_path / "name", SAMPLES, shown=shown)
    assert [sample.name for sample in read_samples(result.savedmodel)] == ["dark", "light"]
    assert read_samples(export_classifier("model", NAMES, tmp_path / "name", SAMPLES)[1]) == []


# An export that was interrupted while it was published.


@pytest.fixture
def interrupted(fake_writers, tmp_path, monkeypatch):
    """An export whose drafts are complete, and none, one or both of them renamed."""

    def make(renamed):
        folder, record = tmp_path / "name", tmp_path / "export.json"
        export_classifier("model", NAMES, folder, SAMPLES, record=record)
        content = files.read_checksummed_json(record)
        finals = [folder / "tflite" / "1", folder / "1"]
        drafts = [final.with_name(f".draft-{number}") for number, final in enumerate(finals)]
        inodes = [final.stat().st_ino for final in finals]
        for draft, final in list(zip(drafts, finals, strict=True))[renamed:]:
            final.rename(draft)
        content["drafts"] = [[d.name, i] for d, i in zip(drafts, inodes, strict=True)]
        files.write_checksummed_json(record, content)
        (tmp_path / "model.config").unlink()
        return folder, record, drafts

    return make


@pytest.mark.parametrize("renamed", [0, 1, 2])
def test_an_interrupted_publication_is_completed(renamed, interrupted):
    folder, record, _ = interrupted(renamed)
    result = export.resume_export(folder, record)
    assert versions(folder) == [[1], [1]]
    assert (result.version, result.savedmodel) == (1, folder / "1")
    assert (folder.parent / "model.config").is_file()
    assert "drafts" not in files.read_checksummed_json(record)
    assert export.resume_export(folder, record) == result


def test_a_publication_whose_draft_is_gone_is_not_completed(interrupted):
    folder, record, drafts = interrupted(1)
    shutil.rmtree(drafts[1])
    assert export.resume_export(folder, record) is None


def test_a_version_of_another_export_is_not_taken_for_ones_own(interrupted):
    folder, record, drafts = interrupted(0)
    (folder / "tflite" / "1").mkdir()
    assert export.resume_export(folder, record) is None
    assert drafts[0].is_dir()


def test_there_is_nothing_to_complete(tmp_path):
    assert export.resume_export(tmp_path, tmp_path / "export.json") is None
    (tmp_path / "export.json").write_text("{")
    assert export.resume_export(tmp_path, tmp_path / "export.json") is None
