"""`keras-srt data check` and `keras-srt init`."""

import json
import shutil

import encoded
import numpy as np
import pytest
from helpers import tiny, write_config
from own_images import digits, make_folder, settings, write_csv
from PIL import Image

from keras_srt.cli import main as cli
from keras_srt.folders.check import check
from keras_srt.folders.starting_config import find_source
from keras_srt.pipeline import plan
from keras_srt.pipeline.configs import load_config


@pytest.fixture
def root(tmp_path):
    make_folder(tmp_path)
    return tmp_path


@pytest.fixture
def findings(root):
    """What is wrong with the images below `root`, by kind; the JSON says the same."""

    def find(**changes):
        config = write_config(root, tiny(data=settings(root, validation=8, **changes)))
        return {
            finding.kind: finding
            for finding in check(load_config(str(config)).data.dataset, None)[2]
        }

    return find


def first(folder):
    return sorted(folder.iterdir())[0]


def test_nothing_is_wrong(root, findings):
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
    held_out = {image.tobytes() for image in config.data.dataset.load_test(None).images}
    images, _ = digits(40)
    pixels = next(image for image in images if image.tobytes() in held_out)
    Image.fromarray(pixels).save(root / "unlabeled/other.bmp")
    Image.fromarray(pixels).save(root / "unlabeled/other.png")
    found = findings()["in train and test"]
    assert found.is_error
    assert len(found.items) == 1
    assert "other.bmp" in found.items[0]
    assert "other.png" in found.items[0]


def test_labeled_and_unlabeled_alike_and_copies_are_warnings(root, findings):
    config = load_config(str(write_config(root, tiny(data=settings(root, validation=8)))))
    source = config.data.dataset
    known = source.load_train(None).images[0, ..., 0]
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
    assert found["small class"].items == ("few: 4",)
    assert found["class too small"].items == ("single: 1",)
    assert found["class too small"].is_error


def test_a_test_part_of_its_own_is_read_and_compared(root, findings):
    (root / "test/one").mkdir(parents=True)
    shutil.copy(first(root / "labeled/one"), root / "test/one")
    found = findings(test=str(root / "test"))
    assert set(found) == {"in train and test"}


def test_the_command(root, capsys):
    config = str(write_config(root, tiny(data=settings(root, validation=8))))
    assert cli.main(["data", "check", config]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert output.out.splitlines() == [
        "images    32 labeled, 8 test, 30 unlabeled",
        f"classes   2, with {output.out.split('with ')[1].split()[0]} to "
        f"{output.out.split(' to ')[1].split()[0]} images to train on",
        "fine      nothing is wrong with them",
    ]
    for number in range(4):
        (root / f"unlabeled/{number}.png").write_bytes(b"")
    assert cli.main(["data", "check", config, "--json", str(root / "found.json")]) == 1
    output = capsys.readouterr().out
    assert "error     unreadable: 4 (can't be read; a training leaves them out)" in output
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
        (["init", "nothing"], "init: nothing is no folder"),
        (["init", "."], "data.labeled: . has no subfolders"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, problem, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {problem}")
    assert error.count("\n") == 1


# ------------------------------------------------------------------------------ init


def started(arguments, capsys):
    assert cli.main(["init", *map(str, arguments)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("layout", ["parts", "classes", "csv"])
def test_a_starting_config_for_each_layout(layout, root, capsys):
    given = root
    if layout == "classes":
        given = root / "labeled"
    if layout == "csv":
        rows = [(path, "") for path in sorted((root / "unlabeled").rglob("*.*"))]
        rows += [(path, path.parent.name) for path in sorted((root / "labeled").rglob("*.*"))]
        given = root / "table"
        given.mkdir()
        write_csv(given / "images.csv", rows)
    path = root / "start.json"
    output = started([given, "--output", path], capsys)
    unlabeled = 0 if layout == "classes" else 30
    assert f"images    40 labeled, {unlabeled} unlabeled\n" in output
    assert "classes   2: one, seven\n" in output
    assert "size      28 x 28, gray, from a look at" in output
    for variant in (None, "smoke"):
        config = load_config(str(path), variant)
        planned = plan.make_plan(config, config.data.dataset.info(None))
        assert (planned.num_labeled, planned.num_validation) == (29, 3)
        assert planned.num_unlabeled == unlabeled
        assert config.objective.name == ("rt" if layout == "classes" else "srt")
    assert cli.main(["data", "check", str(path)]) == 0


def test_large_color_photos_get_a_network_for_photos(tmp_path, capsys):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(3):
            pixels = np.random.default_rng(number).integers(0, 256, (150, 130, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{number}.jpg")
    path = tmp_path / "pets.json"
    assert "size      128 x 128, color" in started([tmp_path / "pets", "--output", path], capsys)
    config = load_config(str(path))
    assert config.model.name == "mobilenet_v2"
    assert (config.data.dataset.size, config.data.dataset.channels) == ((128, 128), 3)


def test_nothing_is_overwritten(root, capsys):
    path = root / "start.json"
    path.write_text("mine")
    assert cli.main(["init", str(root), "--output", str(path)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert path.read_text() == "mine"


def test_files_that_cannot_be_read_are_named(root, capsys):
    (root / "unlabeled/bad.png").write_bytes(b"")
    assert "warning: 1 of these can't be read" in started([root, "--output", root / "a"], capsys)
    for path in root.rglob("*.*"):
        path.write_bytes(b"")
    assert cli.main(["init", str(root), "--output", str(root / "b")]) == 2
    assert "init: none of 71 files can be read" in capsys.readouterr().err


def test_several_tables_are_refused(root):
    shutil.rmtree(root / "labeled")
    for name in ("a.csv", "b.csv"):
        write_csv(root / name, [("x.png", "y")])
    with pytest.raises(Exception, match=r"holds a\.csv, b\.csv; allowed: one CSV"):
        find_source(root)
