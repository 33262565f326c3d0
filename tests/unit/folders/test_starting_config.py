"""`keras-srt init`."""

import shutil

import numpy as np
import pytest
from own_images import write_csv
from PIL import Image

from keras_srt.cli import main as cli
from keras_srt.folders.starting_config import find_source
from keras_srt.pipeline import plan
from keras_srt.pipeline.configs import load_config


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
    assert "size      28 x 28, gray, from a sample of" in output
    for variant in (None, "smoke"):
        config = load_config(str(path), variant)
        planned = plan.make_plan(config, config.data.dataset.open().info)
        assert (planned.num_labeled, planned.num_validation) == (26, 6)
        assert planned.num_unlabeled == unlabeled
        assert config.objective.name == ("rt" if layout == "classes" else "srt")
    assert cli.main(["data", "check", str(path)]) == 0


def test_layouts_of_other_tools(root, capsys):
    """`train/` and `val/`, as torchvision has them; a Kaggle test folder has no classes."""
    shutil.copytree(root / "labeled", root / "pets/Train")
    shutil.copytree(root / "labeled", root / "pets/val")
    output = started([root / "pets", "--output", root / "a.json"], capsys)
    assert f"labeled   {root}/pets/Train\ntest      {root}/pets/val\n" in output
    assert "classes   2: one, seven\n" in output
    config = load_config(str(root / "a.json"))
    assert config.data.dataset.test == f"{root}/pets/val"
    shutil.copytree(root / "unlabeled/deep/er", root / "pets/test")
    output = started([root / "pets", "--output", root / "b.json"], capsys)
    assert f"warning: {root}/pets/test is not used, because it has no class folders" in output
    shutil.copytree(root / "labeled", root / "pets/training")
    assert cli.main(["init", str(root / "pets"), "--output", str(root / "c.json")]) == 2
    assert "holds Train and training, both for labeled images" in capsys.readouterr().err


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
    assert "already exists" in capsys.readouterr().err
    assert path.read_text() == "mine"


def test_unreadable_files_are_reported(root, capsys):
    (root / "unlabeled/bad.png").write_bytes(b"")
    assert "warning: 1 of the sampled files can't be read" in started(
        [root, "--output", root / "a"], capsys
    )
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
