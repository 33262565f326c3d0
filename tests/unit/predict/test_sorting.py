"""Sorting of images by class."""

import os

import pytest
from predict_helpers import Fake, touch

from keras_srt.core.errors import UserError
from keras_srt.predict.sorting import Sorter, folder_names


@pytest.mark.parametrize("copy", [False, True])
def test_images_are_sorted_by_class(tmp_path, copy):
    touch(tmp_path, "in/0.png")
    touch(tmp_path, "in/1.png", content=b"\x01")
    sorter = Sorter(tmp_path / "out" / "deep", copy)
    predictions = [Fake().predict(path.read_bytes()) for path in (tmp_path / "in").iterdir()]
    for path, prediction in zip((tmp_path / "in").iterdir(), predictions, strict=True):
        sorter.add(path, prediction)
    for place, content in (("a/0.png", b"\x00"), ("b/1.png", b"\x01")):
        filed = tmp_path / "out" / "deep" / place
        assert filed.read_bytes() == content
        assert filed.is_symlink() == (not copy)
        assert filed.stat().st_mtime == (tmp_path / "in" / filed.name).stat().st_mtime


@pytest.mark.parametrize("copy", [False, True])
def test_equal_names_are_kept_apart_and_sorting_is_idempotent(tmp_path, copy):
    folders = ["one", "two", "three"]
    for i, folder in enumerate(folders):
        touch(tmp_path, f"{folder}/x.png", content=b"\x00" + bytes([i]))
    touch(tmp_path, "out/a/x.png", content=b"mine")

    def file_all():
        sorter = Sorter(tmp_path / "out", copy)
        paths = [tmp_path / folder / "x.png" for folder in folders]
        return [sorter.add(path, Fake().predict(path.read_bytes())) for path in paths]

    def state():
        return {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.png")}

    first, after_first = file_all(), state()
    assert len(after_first) == 4
    assert after_first[tmp_path / "out" / "a" / "x.png"] == b"mine"
    assert [after_first[path][1] for path in first] == [0, 1, 2]
    assert all(path.name.startswith("x-") and path.suffix == ".png" for path in first)
    assert file_all() == first
    assert state() == after_first


def test_failed_copy_leaves_nothing(tmp_path, monkeypatch):
    touch(tmp_path, "x.png", content=b"\x00" * 100)

    def fill_the_disk(source, target):
        target.write(source.read(10))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", fill_the_disk)
    with pytest.raises(UserError, match="No space left on device"):
        Sorter(tmp_path / "out", copy=True).add(tmp_path / "x.png", Fake().predict(b"\x00"))
    assert list((tmp_path / "out" / "a").iterdir()) == []


def test_class_names_are_safe_folder_names():
    evil = [
        "../x",
        "a/b",
        "..",
        ".",
        "",
        "/etc",
        "a\\b",
        "x\0y",
        "\n",
        "C:",
        ".ssh",
        "ok",
        "\ud800",
    ]
    names = folder_names([*evil, "n" * 300])
    for name in names:
        assert name == os.path.basename(name)
        assert name not in ("", ".", "..")
        assert not name.startswith(".")
        assert name.isprintable()
        assert len(name.encode()) <= 255
    assert len({name.casefold() for name in names}) == len(names)
    assert "ok" in names


def test_folder_names_are_unique():
    assert folder_names(["a_b", "a/b", "A_B", "a_b-1", "犬"]) == [
        "a_b",
        "a_b-1",
        "A_B-2",
        "a_b-1-3",
        "犬",
    ]


def test_folder_that_cannot_be_created(tmp_path):
    touch(tmp_path, "file")
    with pytest.raises(UserError, match=r"--sort-into .*file/x: can't be created"):
        Sorter(tmp_path / "file" / "x")
