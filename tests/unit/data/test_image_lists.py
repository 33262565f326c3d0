"""Lists of image files: layouts of other tools, and names in several Unicode forms."""

import unicodedata

import pytest

from keras_srt.core.errors import UserError
from keras_srt.data import Folder
from keras_srt.data.image_lists import find_parts, list_classes, read_csv

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Bär") for form in ("NFC", "NFD"))


def make(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
    return root


def of_classes(*parts, classes=("cat", "dog")):
    return [f"{part}/{name}/1.png" for part in parts for name in classes]


LAYOUTS = {
    "torchvision": (of_classes("train", "val"), {"train": "labeled", "val": "validation"}),
    "capitals": (of_classes("Train", "TEST"), {"Train": "labeled", "TEST": "test"}),
    "ultralytics": (
        of_classes("train", "valid", "test"),
        {"train": "labeled", "valid": "validation", "test": "test"},
    ),
    "keras": (of_classes("training", "validation"), None),
    "kaggle": ([*of_classes("train"), "test/1.png"], {"train": "labeled", "test": "test"}),
    "prefix": (of_classes("seg_train", "seg_test"), {"seg_train": "labeled", "seg_test": "test"}),
    "unlabeled beside classes": (
        ["cat/1.png", "dog/1.png", "Unlabeled/1.png"],
        {"Unlabeled": "unlabeled"},
    ),
    "test beside classes": (["cat/1.png", "dog/1.png", *of_classes("test")], {"test": "test"}),
    "capital labeled": (of_classes("Labeled"), {"Labeled": "labeled"}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parts_of_a_dataset_are_no_classes(layout, tmp_path):
    files, parts = LAYOUTS[layout]
    make(tmp_path, *files)
    assert parts is None or find_parts(tmp_path) == parts
    with pytest.raises(UserError, match="parts of a dataset and not classes") as caught:
        list_classes(tmp_path, "data.labeled")
    for name, part in (parts or {}).items():
        assert f"{part}: {tmp_path / name}" in str(caught.value)


def test_classes_may_have_such_names(tmp_path):
    """CIFAR-100 has a class `train`; classes may have subfolders."""
    make(tmp_path, "train/1.png", "bus/1.png", "test tube/a/1.png", "dog/train/1.png")
    assert find_parts(tmp_path) == {}
    assert list_classes(tmp_path, "s").classes == ("bus", "dog", "test tube", "train")


def test_other_parts_are_no_classes(tmp_path):
    make(tmp_path, "cat/1.png", "dog/1.png", "unlabeled/a/1.png", *of_classes("test"))
    parts = {part: str(tmp_path / part) for part in ("unlabeled", "test")}
    files = Folder(labeled=str(tmp_path), **parts).list_files(None)
    assert files.labeled.classes == files.test.classes == ("cat", "dog")
    assert len(files.unlabeled) == 1


def test_paths_of_windows_in_a_csv(tmp_path):
    make(tmp_path, "a/b/1.png")
    table = tmp_path / "all.csv"
    table.write_text("path,label\na\\b\\1.png,cat\na\\missing.png,dog\n")
    files = read_csv(table, "data.csv").files
    assert files == (tmp_path / "a/b/1.png", tmp_path / "a\\missing.png")


def test_both_unicode_forms_are_one_class(tmp_path):
    make(tmp_path / "labeled", f"{DECOMPOSED}/1.png", f"{COMPOSED}/2.png", "dog/1.png")
    make(tmp_path / "test", f"{DECOMPOSED}/1.png", "dog/1.png")
    settings = {part: str(tmp_path / part) for part in ("labeled", "test")}
    files = Folder(**settings).list_files(None)
    assert files.labeled.classes == files.test.classes == (COMPOSED, "dog")
    assert len(files.labeled.files) == 3
    table = tmp_path / "all.csv"
    table.write_text(f"path,label\n1.png,{DECOMPOSED}\n2.png,{COMPOSED}\n", encoding="utf-8")
    assert read_csv(table, "data.csv").classes == (COMPOSED,)
