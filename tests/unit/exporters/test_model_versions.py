"""Versions are published atomically and never changed."""

import signal

import pytest
from helpers import python

from keras_srt.core.errors import UserError
from keras_srt.exporters.model_versions import next_version, prune, publishing


def test_next_version(tmp_path):
    assert next_version(tmp_path / "nothing") == 1
    for name in ("2", "10", "tflite", ".draft-x", "v30", "-40"):
        (tmp_path / "a" / name).mkdir(parents=True)
    (tmp_path / "b" / "12").mkdir(parents=True)
    assert next_version(tmp_path / "a") == 11
    assert next_version(tmp_path / "a", tmp_path / "b", tmp_path / "c") == 13


def test_existing_version_is_never_changed(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "file").write_text("first")
    with pytest.raises(UserError, match="never changed"), publishing(tmp_path, 1):
        pytest.fail("no draft")
    assert [path.name for path in tmp_path.rglob("*")] == ["1", "file"]
    assert (tmp_path / "1" / "file").read_text() == "first"


def test_negative_version_is_refused(tmp_path):
    with pytest.raises(UserError, match="version: got -1"), publishing(tmp_path, -1):
        pytest.fail("no draft")


def test_version_appears_atomically(tmp_path):
    with publishing(tmp_path, 3) as draft:
        (draft / "half").write_text("")
        assert not (tmp_path / "3").exists()
        assert not draft.name.isdecimal()
        assert draft.parent == tmp_path  # one file system, so that the rename is atomic
    assert [p.name for p in tmp_path.iterdir()] == ["3"]
    assert (tmp_path / "3").stat().st_mode & 0o777 == 0o755


def test_first_of_two_concurrent_exports_wins(tmp_path):
    def second():
        with publishing(tmp_path, 1) as slow:
            (slow / "file").write_text("second")
            with publishing(tmp_path, 1) as fast:
                (fast / "file").write_text("first")

    with pytest.raises((UserError, OSError)):
        second()
    assert [p.name for p in tmp_path.iterdir()] == ["1"]
    assert (tmp_path / "1" / "file").read_text() == "first"


def test_prune_removes_versions_that_one_folder_lacks(tmp_path):
    for name in ("a/1", "a/2", "b/2", "b/3"):
        (tmp_path / name).mkdir(parents=True)
    assert prune([tmp_path / "a", tmp_path / "b", tmp_path / "none"], 1, 3) == [1, 2]
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*"))
    assert left == ["b/3"]


def test_killed_export_leaves_no_version(tmp_path):
    code = f"""
import os, pathlib, signal
from keras_srt.exporters.model_versions import publishing
with publishing(pathlib.Path({str(tmp_path)!r}), 1) as draft:
    (draft / "saved_model.pb").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert python("-c", code).returncode == -signal.SIGKILL
    (draft,) = tmp_path.iterdir()
    assert draft.name.startswith(".draft-")
    assert next_version(tmp_path) == 1
    with publishing(tmp_path, 1):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
