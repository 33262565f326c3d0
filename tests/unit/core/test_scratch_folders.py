"""Temporary folders of living processes stay, those of killed ones go."""

import signal

import pytest
from helpers import python

from keras_srt.core.scratch_folders import scratch_folder


def test_a_scratch_folder_ends_with_its_body(tmp_path):
    with scratch_folder(tmp_path, "x-") as folder:
        (folder / "file").touch()
        with scratch_folder(tmp_path, "x-") as other:
            assert folder.is_dir()
            assert other != folder
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyError), scratch_folder(tmp_path, "x-"):
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_a_renamed_scratch_folder_stays(tmp_path):
    with scratch_folder(tmp_path, "x-") as folder:
        folder.rename(tmp_path / "final")
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_folders_of_killed_processes_are_removed(tmp_path):
    code = f"""
import os, pathlib, signal
from keras_srt.core.scratch_folders import scratch_folder
with scratch_folder(pathlib.Path({str(tmp_path)!r}), "x-") as folder:
    (folder / "file").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert python("-c", code).returncode == -signal.SIGKILL
    for name in ("other", "x-file"):
        (tmp_path / name).touch()
    (tmp_path / "x-link").symlink_to(tmp_path, target_is_directory=True)
    assert len(list(tmp_path.iterdir())) == 4
    with scratch_folder(tmp_path, "x-"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "x-file", "x-link"]
