"""Finding of image files."""

import glob
import os
from pathlib import Path

import pytest
from predict_helpers import touch

from keras_srt.core.errors import UserError
from keras_srt.predict import image_files
from keras_srt.predict.image_files import check_sources, find_images


def found(*arguments, **options):
    return [str(path) for path in find_images([str(a) for a in arguments], **options)]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "p/b.png", "p/a.JPG", "p/notes.txt", "p/.hidden.png", "p/.git/x.png")
    touch(
        tmp_path, "p/cats/1.jpeg", "p/cats/10.png", "p/cats/2.png", "p/dogs/deep/1.png", "q/z.webp"
    )
    return tmp_path


def test_folder_yields_its_images_in_order(tree):
    assert found("p") == [
        "p/a.JPG",
        "p/b.png",
        "p/cats/1.jpeg",
        "p/cats/10.png",
        "p/cats/2.png",
        "p/dogs/deep/1.png",
    ]
    assert found(tree / "p" / "cats" / "2.png", "p/notes.txt", "no-such-file") == [
        str(tree / "p" / "cats" / "2.png"),
        "p/notes.txt",
        "no-such-file",
    ]


@pytest.mark.parametrize(
    "pattern",
    [
        "p/*.png",
        "*/*/1.*",
        "p/**/1*",
        "**/*.png",
        "p/c?ts/[12].*",
        "p/**/deep/*",
        "**/1.png",
        "./p/*",
    ],
)
def test_globs_equal_those_of_python(tree, pattern):
    by_glob = [path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)]
    images = {os.path.normpath(path) for path in by_glob if not path.endswith(".txt")}
    got = found(pattern)
    assert images <= set(got)
    # A matching folder yields all of its images, as if the shell had expanded the glob.
    folders = [path for path in glob.glob(pattern, recursive=True) if os.path.isdir(path)]
    assert set(got) == images | {path for folder in folders for path in found(folder)}
    assert len(got) == len(set(got))


def test_glob_lists_only_folders_that_can_match(tree, monkeypatch):
    looked = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looked.append(str(path)) or scan(path))
    assert found("p/*.png") == ["p/b.png"]
    assert looked == ["p"]


def test_existing_file_with_glob_characters_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "a[1].png", "a1.png")
    assert found("a[1].png") == ["a[1].png"]


def test_links_to_folders_are_not_followed(tree):
    (tree / "p" / "loop").symlink_to(tree / "p")
    (tree / "p" / "link.png").symlink_to(tree / "q" / "z.webp")
    assert len(found("p")) == 7
    assert "p/link.png" in found("p")


def test_folder_is_skipped(tree):
    assert found("p", skip=tree / "p" / "cats") == ["p/a.JPG", "p/b.png", "p/dogs/deep/1.png"]


def test_large_folder_is_listed_in_order_in_several_passes(tmp_path, monkeypatch):
    names = [f"{i * 7919 % 10_007}.png" for i in range(1000)]
    for name in names:
        (tmp_path / name).touch()
    monkeypatch.setattr(image_files, "NAMES_AT_A_TIME", 64)
    got = [path.name for path in find_images([str(tmp_path)])]
    assert got == sorted(names)
    assert sorted(got) == sorted(p.name for p in find_images([str(tmp_path)], ordered=False))


def test_arguments_without_images_are_refused(tree):
    (tree / "empty").mkdir()
    check_sources(["p", "no-such-file"])
    for arguments, message in (
        (["nowhere", "nothing.png"], "nowhere, nothing.png: no such file or folder"),
        (["empty", "p"], "empty: contains no image"),
        (["p/*.gif"], "p/*.gif: contains no image"),
        (["nowhere/*.png"], "nowhere/*.png: contains no image"),
    ):
        with pytest.raises(UserError) as caught:
            check_sources(arguments)
        assert str(caught.value).startswith(message)
    with pytest.raises(UserError, match="p/cats: is inside p, the folder of results"):
        check_sources(["p/cats"], Path("p"))
