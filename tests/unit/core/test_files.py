"""Atomic writes, checksums, run folder locks and verification of the best classifier."""

import fcntl
import json
import os
from pathlib import Path

import pytest

from keras_srt.core import files
from keras_srt.core.errors import UserError
from keras_srt.data import Split
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.training import checkpoint_files


def test_readers_see_the_old_file_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old\r\n")
    assert path.read_bytes() == b"old\r\n"
    with files.atomic_write(path) as draft:
        draft.write_text("new")
        assert path.read_bytes() == b"old\r\n"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failed_write_leaves_the_old_file(error, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    wanted = UserError if isinstance(error, OSError) else KeyboardInterrupt

    def fail():
        with files.atomic_write(path) as draft:
            draft.write_text("half")
            raise error

    with pytest.raises(wanted) as caught:
        fail()
    if wanted is UserError:
        assert "a.txt: can't be written (No space left on device)" in str(caught.value)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_only_drafts_are_removed(tmp_path):
    files.draft_path(tmp_path / "a.txt").write_text("half")
    (tmp_path / ".draft-state-3_temp").mkdir()
    (tmp_path / "kept").write_text("")
    files.remove_drafts(tmp_path)
    assert os.listdir(tmp_path) == ["kept"]


@pytest.mark.parametrize("position", [3, 20, -5])
def test_flipped_bit_breaks_the_checksum(position, tmp_path):
    path = tmp_path / "a.json"
    files.write_checksummed_json(path, {"score": 0.5, "step": 30, "what": ["x", None]})
    assert files.read_checksummed_json(path) == {"score": 0.5, "step": 30, "what": ["x", None]}
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError):
        files.read_checksummed_json(path)


# The best classifier.


def save_best(folder, content=b"weights", score=0.5):
    path = checkpoint_files.best_weights(folder)
    path.write_bytes(content)
    about = {"step": 3, checkpoint_files.ROBUST: score, "sha256": files.sha256(path)}
    files.write_checksummed_json(checkpoint_files.about_best(folder), about)
    return path


def test_best_classifier_is_verified(tmp_path):
    assert checkpoint_files.find_best(tmp_path) is None
    assert checkpoint_files.best_score(tmp_path, checkpoint_files.ROBUST) == -1
    path = save_best(tmp_path)
    checkpoint_files.find_best(tmp_path)
    assert checkpoint_files.best_score(tmp_path, checkpoint_files.ROBUST) == 0.5
    path.write_bytes(b"weighty")
    with pytest.raises(UserError, match=r"best\.weights\.h5: or best\.json is damaged"):
        checkpoint_files.find_best(tmp_path)


def test_interrupted_rename_of_the_best_classifier_is_completed(tmp_path):
    path = save_best(tmp_path, b"new")
    draft = path.rename(files.draft_path(path))
    path.write_bytes(b"old")
    assert checkpoint_files.find_best(tmp_path) == draft
    assert path.read_bytes() == b"old"  # a reader changes nothing
    checkpoint_files.complete_best(tmp_path)
    assert path.read_bytes() == b"new"


def test_best_classifier_without_best_json_is_rejected(tmp_path):
    save_best(tmp_path)
    checkpoint_files.about_best(tmp_path).unlink()
    with pytest.raises(UserError, match=r"best\.json"):
        checkpoint_files.find_best(tmp_path)


def test_best_classifier_without_checksum_is_accepted(tmp_path):
    path = save_best(tmp_path)
    checkpoint_files.about_best(tmp_path).write_text(
        json.dumps({"step": 3, checkpoint_files.ROBUST: 0.25})
    )
    checkpoint_files.find_best(tmp_path)
    assert path.is_file()
    assert checkpoint_files.best_score(tmp_path, checkpoint_files.ROBUST) == 0.25


# Run folders.


def test_run_folder_is_locked_by_one_process(tmp_path):
    run = RunFolder(tmp_path / "run")
    with run.held():
        with pytest.raises(UserError, match=rf"process {os.getpid()} .* is training in this"):
            with RunFolder(run.path).held():
                pass
    with run.held():
        run.claim("{}", resume=False)
    with run.held():  # with a config in it, too
        assert run.config.is_file()


def test_a_writer_uses_the_lock_of_its_process(tmp_path):
    run = RunFolder(tmp_path / "run")
    with run.held(), run.writing(), RunFolder(run.path).writing():
        pass
    with run.writing():
        with pytest.raises(UserError, match="is training in this folder"), run.held():
            pass
    with run.held():
        pass


def test_a_lock_of_another_process_stops_a_writer(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    with (run.path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="is training in this folder"), run.writing():
            pass


def test_folder_that_is_not_a_run_is_not_locked(tmp_path):
    (tmp_path / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(UserError, match="is not empty and not a run"), RunFolder(tmp_path).held():
        pass
    assert os.listdir(tmp_path) == ["cat.jpg"]


def test_start_killed_before_the_config_can_be_repeated(tmp_path):
    (tmp_path / ".draft-config.json").write_text("{")
    (tmp_path / "checkpoints").mkdir()
    run = RunFolder(tmp_path)
    with run.held():
        run.claim("{}", resume=False)
    assert run.config.read_text() == "{}"


@pytest.mark.parametrize("content", [b"\xff\x00", b"step\nx\n", b"a,b\n1,2\n", b"step,a\n3\n"])
def test_damaged_history_is_reported(content, tmp_path):
    run = RunFolder(tmp_path)
    run.history.write_bytes(content)
    with pytest.raises(UserError, match=r"history\.csv: can't be read .* remove it"):
        run.read_history()


def test_changed_index_of_a_split_is_detected(tmp_path):
    import numpy as np

    path = tmp_path / "split.json"
    Split(np.int64([1, 2]), np.int64([5]), np.int64([7]), 0, "first").save(path)
    assert Split.load(path).labeled.tolist() == [1, 2]
    path.write_text(path.read_text().replace("[1, 2]", "[1, 3]"))
    with pytest.raises(UserError, match=r"split\.json: can't be read as a split .*checksum"):
        Split.load(path)


def test_check_space_removes_its_file(tmp_path):
    path = tmp_path / "file"
    files.check_space(path, 1000)
    assert not path.exists()
    with pytest.raises(OSError, match=r"large|space"):
        files.check_space(path, 2**60)


# Absolute paths.


def test_absolute_paths_need_no_working_directory(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert files.absolute(Path("../run"), "run folder") == tmp_path / "run"
    (tmp_path / "here").rmdir()
    with pytest.raises(UserError, match="working directory was removed"):
        files.absolute(Path("run"), "run folder")
    assert files.absolute(tmp_path / "run", "run folder") == tmp_path / "run"


@pytest.mark.parametrize("name", ["a\0b", "a\udc80b"], ids=["NUL", "not UTF-8"])
def test_paths_that_tensorflow_cannot_use_are_refused(name, tmp_path):
    with pytest.raises(UserError, match="run folder: "):
        files.absolute(tmp_path / name, "run folder")
