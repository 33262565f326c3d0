"""`keras-srt data check`."""

import json
import shutil

import encoded
import numpy as np
import pytest
from helpers import tiny, write_config
from own_images import digits, settings
from PIL import Image

from keras_srt.cli import main as cli
from keras_srt.folders.check import Checked, check, table
from keras_srt.pipeline.configs import load_config


@pytest.fixture
def findings(root):
    """Return a function that checks the images in `root`; findings by kind."""

    def find(**changes):
        config = write_config(root, tiny(data=settings(root, validation=8, **changes)))
        return {
            finding.kind: finding
            for finding in check(load_config(str(config)).data.dataset, None)[2]
        }

    return find


def first(folder):
    return sorted(folder.iterdir())[0]


def test_a_clean_folder_has_no_findings(root, findings):
    assert findings() == {}


@pytest.mark.parametrize("part", ["labeled/one", "unlabeled/deep/er"])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (encoded.PNG[:-300], "is a truncated PNG"),
        (encoded.bomb(16384), "has too many pixels"),
    ],
)
def test_unreadable_files_and_bombs(data, reason, part, root, findings):
    path = root / part / "bad.png"
    path.write_bytes(data)
    found = findings()
    assert set(found) == {"unreadable"}
    assert found["unreadable"].is_error
    (item,) = found["unreadable"].items
    assert item.startswith(f"{path}: {reason}")


def test_the_same_image_in_two_classes(root, findings):
    path = first(root / "labeled/one")
    Image.open(path).save(root / "labeled/seven/same.png")
    found = findings()["two labels"]
    assert found.is_error
    assert found.items[0].endswith("(one, seven)")


def test_the_same_image_in_train_and_test_whatever_its_format(root, findings):
    config = load_config(str(write_config(root, tiny(data=settings(root, validation=8)))))
    held_out = {image.tobytes() for image in config.data.dataset.open().load_test().images}
    images, _ = digits(40)
    pixels = next(image for image in images if image.tobytes() in held_out)
    Image.fromarray(pixels).save(root / "unlabeled/other.bmp")
    Image.fromarray(pixels).save(root / "unlabeled/other.png")
    found = findings()["in train and test"]
    assert found.is_error
    assert len(found.items) == 1
    assert "other.bmp" in found.items[0]
    assert "other.png" in found.items[0]


def test_duplicates_within_training_are_warnings(root, findings):
    config = load_config(str(write_config(root, tiny(data=settings(root, validation=8)))))
    source = config.data.dataset
    known = source.open().load_train().images[0, ..., 0]
    Image.fromarray(known).save(root / "unlabeled/again.png")
    unlabeled = first(root / "unlabeled/deep/er")
    shutil.copy(unlabeled, root / f"unlabeled/copy{unlabeled.suffix}")
    found = findings()
    assert set(found) == {"in both parts", "copies"}
    assert not any(finding.is_error for finding in found.values())


def test_tiny_images(root, findings):
    Image.fromarray(np.uint8(np.eye(4) * 9)).save(root / "unlabeled/tiny.png")
    found = findings()
    assert set(found) == {"tiny"}
    assert found["tiny"].items == (f"{root / 'unlabeled/tiny.png'}: 4 x 4",)
    assert not found["tiny"].is_error


def test_classes_with_few_images(root, findings):
    for number, count in (("few", 5), ("single", 1)):
        (root / "labeled" / number).mkdir()
        for index in range(count):
            pixels = np.random.default_rng(index + 10 * count).integers(0, 256, (12, 12), np.uint8)
            Image.fromarray(pixels).save(root / "labeled" / number / f"{index}.png")
    found = findings()
    assert found["small class"].items == ("few: 4", "single: 1")
    for path in (root / "labeled" / "single").iterdir():
        path.write_bytes(b"")
    found = findings()
    assert found["class too small"].items == ("single: 0",)
    assert found["class too small"].is_error


def test_what_training_refuses_is_an_error(root, capsys):
    for validation, exit_code in ((8, None), (200, 1)):
        config = str(write_config(root, tiny(data=settings(root, validation=validation))))
        assert (cli.main(["data", "check", config]) or None) == exit_code
        refused = "(train will refuse this)" in capsys.readouterr().out
        assert refused == (exit_code == 1)


@pytest.mark.parametrize("selection", ["first", "stratified"])
def test_first_images_without_a_class_are_an_error(selection, root, capsys):
    """As `train` and `info` find them: two images are of the class `rare`."""
    for path in sorted((root / "labeled/one").iterdir())[2:]:
        path.unlink()
    (root / "labeled/one").rename(root / "labeled/rare")
    dataset = settings(root, size=16) | {"name": "folder"}
    del dataset["source"]
    data = {"dataset": dataset, "labeled": 2, "validation": 2, "selection": selection}
    config = str(write_config(root, tiny(data=data)))
    code = cli.main(["data", "check", config]) or 0
    assert (code, "train will refuse this" in capsys.readouterr().out) == (
        (1, True) if selection == "first" else (0, False)
    )
    if selection == "first":
        assert cli.main(["info", "--config", config]) == 2
        assert "none of class [0]" in capsys.readouterr().err


def test_a_separate_test_part_is_checked_too(root, findings):
    (root / "test/one").mkdir(parents=True)
    shutil.copy(first(root / "labeled/one"), root / "test/one")
    found = findings(test=str(root / "test"))
    assert set(found) == {"in train and test"}


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ((40, 40), "classes   2, with 40 training images each"),
        ((1, 1), "classes   2, with 1 training image each"),
        ((4, 1200), "classes   2, with 4 to 1,200 training images"),
    ],
)
def test_the_table_says_how_many_images_the_classes_have(counts, line):
    classes = {name: (count, 0) for name, count in zip("ab", counts, strict=True)}
    checked = Checked({"labeled": sum(counts)}, classes, (), np.int32([]))
    assert table(checked).splitlines()[1] == line


def test_the_command(root, capsys):
    config = str(write_config(root, tiny(data=settings(root, validation=8))))
    assert cli.main(["data", "check", config]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert output.out.splitlines() == [
        "images    32 labeled, 8 test, 30 unlabeled",
        f"classes   2, with {output.out.split('with ')[1].split()[0]} to "
        f"{output.out.split(' to ')[1].split()[0]} training images",
        "ok        no problems found",
    ]
    for number in range(4):
        (root / f"unlabeled/{number}.png").write_bytes(b"")
    assert cli.main(["data", "check", config, "--json", str(root / "found.json")]) == 1
    output = capsys.readouterr().out
    assert "error     unreadable: 4 (can't be read; training skips them)" in output
    assert "… 2 more (--json FILE lists them)" in output
    found = json.loads((root / "found.json").read_text())
    assert found["images"] == {"labeled": 32, "test": 8, "unlabeled": 34}
    (finding,) = found["findings"]
    assert (finding["kind"], finding["severity"], finding["count"]) == ("unreadable", "error", 4)
    assert finding["items"] == [f"{root}/unlabeled/{number}.png: is empty" for number in range(4)]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["data", "check", "digits_pixel.json"], "data check: got the dataset 'digits'"),
        (["data", "check", "nothing.json"], "--config nothing.json: no such file"),
        (["init", "nothing"], "init: nothing is not a folder"),
        (["init", "."], "init: . has no class folders"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, problem, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {problem}")
    assert error.count("\n") == 1
