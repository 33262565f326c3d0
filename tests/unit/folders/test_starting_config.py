"""`keras-srt init`."""

import shutil

import numpy as np
import pytest
from own_images import write_csv
from PIL import Image

from keras_srt.cli import main as cli
from keras_srt.folders import step_timing, threat_check
from keras_srt.folders.layout import find_source
from keras_srt.folders.threat_check import ThreatCheck
from keras_srt.pipeline import plan
from keras_srt.pipeline.configs import load_config


@pytest.fixture(autouse=True)
def step_seconds(monkeypatch):
    """Seconds of a step by network and image size, which need no TensorFlow here."""
    seconds = {}

    def timed(content, info):
        config = step_timing._parsed(content)
        assert plan.make_plan(config, info).num_labeled >= len(info.class_names)
        return seconds.get((config.model.name, info.input_shape[0]), 0.1)

    monkeypatch.setattr(step_timing, "estimate_step", timed)
    monkeypatch.setattr(step_timing, "measure_step", timed)
    return seconds


@pytest.fixture(autouse=True)
def checked(monkeypatch):
    """The arguments of the checks of the threat, which need no TensorFlow here."""
    calls = []

    def check(*arguments):
        calls.append(arguments)
        return ThreatCheck(np.array([True, True]), {"0.1": np.array([True, False])}, 0.1, 300)

    monkeypatch.setattr(threat_check, "check_threat", check)
    return calls


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
    path = root / "my start.json"
    output = started([given, "--output", path], capsys)
    unlabeled = 0 if layout == "classes" else 30
    assert f"images    40 labeled, {unlabeled} unlabeled\n" in output
    assert "classes   2: one, seven\n" in output
    assert "size      28 x 28, gray, from a sample of" in output
    for variant in (None, "smoke"):
        config = load_config(str(path), variant)
        assert config.name.startswith("my_start")
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


def photos(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(3):
            pixels = np.random.default_rng(number).integers(0, 256, (150, 130, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{number}.jpg")
    return tmp_path / "pets"


@pytest.mark.parametrize(
    ("time", "network", "size", "steps", "epsilon"),
    [("1h", "mobilenet_v2", 128, 2520, 4 / 255), ("10m", "resnet9", 32, 4200, 8 / 255)],
)
def test_the_network_for_photos_follows_from_the_time(
    time, network, size, steps, epsilon, tmp_path, capsys, step_seconds
):
    step_seconds |= {("mobilenet_v2", side): 1.0 for side in (96, 128)}
    step_seconds |= {("resnet9", 64): 0.5}
    path = tmp_path / "pets.json"
    output = started([photos(tmp_path), "--time", time, "--output", path], capsys)
    assert "size      128 x 128, color" in output
    assert f"chosen: {steps:,} steps in" in output
    config = load_config(str(path))
    assert config.model.name == network
    assert config.data.dataset.size == (size, size)
    assert config.training.steps == steps
    assert config.neighborhood.epsilon == pytest.approx(epsilon)
    assert {attack.name for attack in config.evaluation.attacks} == {"fgsm", "pgd"}
    assert "rotation and other changes are not trained against" in output


def test_pretrained_weights_give_a_frozen_start_and_few_steps(tmp_path, capsys, step_seconds):
    step_seconds |= {("mobilenet_v2", 96): 2.0}  # so that 128 pixels take 3.6 s
    pets = photos(tmp_path)
    for weights, network, steps in (("w.h5", "mobilenet_v2", 200), ("imagenet", "resnet50", 200)):
        path = tmp_path / f"{network}.json"
        arguments = [pets, "--time=10m", "--weights", weights, "--output", path]
        given = [] if network == "mobilenet_v2" else ["--network", network]
        output = started([*arguments, *given], capsys)
        config = load_config(str(path))
        assert (config.model.name, config.model.weights) == (network, weights)
        assert config.training.steps == steps  # of 6 images, more would be only more passes
        assert (config.training.freeze, config.training.batch_size) == (0.15, 16)
        assert config.training.learning_rate == 0.01  # at 0.03, a run fell to one class
        assert "200 steps" in output
        assert config.data.dataset.size == ((96, 96) if given == [] else (128, 128))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--network=mobilnet_v2"], "model.name: got 'mobilnet_v2'"),
        (["--network=resnet9", "--weights=w.h5"], "model.weights: "),
        (["--epsilon=0"], "got '0'; allowed: above 0, to 1, such as 8/255 or 0.1"),
        (["--epsilon=8/0"], "got '8/0'; allowed: above 0, to 1"),
    ],
)
def test_wrong_networks_and_radii_are_refused(arguments, problem, root, capsys):
    try:
        code = cli.main(["init", str(root), *arguments, "--output", str(root / "a.json")])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert problem in capsys.readouterr().err
    assert not (root / "a.json").exists()


def test_a_given_radius_is_trained_and_attacked(root, capsys):
    started([root, "--epsilon=51/255", "--output", root / "a.json"], capsys)
    config = load_config(str(root / "a.json"))
    assert config.neighborhood.epsilon == 0.2
    assert [attack.epsilon for attack in config.evaluation.attacks] == [0.2, 0.2]


def test_the_threat_is_checked_unless_it_is_not_wanted(root, capsys, checked):
    output = started([root, "--time=10m", "--output", root / "a.json"], capsys)
    assert "check     a standard model keeps 50% (of 100% clean)" in output
    ((content, info, seconds, step_seconds),) = checked
    assert (content["neighborhood"]["epsilon"], info.num_labeled) == (0.1, 32)
    assert (seconds, step_seconds) == (600.0, 0.1)
    output = started([root, "--no-check", "--output", root / "b.json"], capsys)
    assert "check  " not in output.partition("next")[0]
    assert len(checked) == 1


def test_an_interrupted_check_leaves_no_file(root, capsys, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(threat_check, "check_threat", interrupted)
    before = sorted(root.rglob("*"))
    assert cli.main(["init", str(root), "--output", str(root / "a.json")]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert sorted(root.rglob("*")) == before


def test_small_gray_images_are_attacked_with_a_tenth(root, capsys):
    started([root, "--output", root / "a.json"], capsys)
    config = load_config(str(root / "a.json"))
    assert config.neighborhood.epsilon == 0.1
    assert [attack.epsilon for attack in config.evaluation.attacks] == [0.1, 0.1]


@pytest.mark.parametrize("text", ["", "h", "30", "0m", "-1h", "1d"])
def test_a_time_needs_a_unit(text, root, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["init", str(root), f"--time={text}"])
    assert ended.value.code == 2
    assert "allowed: a time such as 90s, 30m or 2h" in capsys.readouterr().err


def test_images_beside_class_folders_are_unlabeled(root, capsys):
    pets = shutil.copytree(root / "labeled", root / "pets")
    (pets / "empty").mkdir()
    (pets / "__MACOSX/one").mkdir(parents=True)
    shutil.copy(next((pets / "one").iterdir()), pets / "__MACOSX/one/x.png")
    loose = sorted((root / "unlabeled").rglob("*.*"))
    for path in loose:
        shutil.copy(path, pets / path.name)
    output = started([pets, "--output", root / "a.json"], capsys)
    assert f"note: 30 images in {pets} itself are used without labels\n" in output
    assert f"warning: data.labeled: {pets}/empty has no image, it is no class\n" in output
    assert "images    40 labeled, 30 unlabeled\nclasses   2: one, seven\n" in output
    files = load_config(str(root / "a.json")).data.dataset.list_files(None)
    assert files.unlabeled == tuple(pets / path.name for path in loose)
    for path in loose[1:]:
        (pets / path.name).unlink()
    output = started([pets, "--output", root / "b.json"], capsys)
    assert "images    40 labeled, 0 unlabeled\n" in output
    assert "images in no class folder are left out (1, such as" in output


def test_images_without_class_folders_are_refused(root, capsys):
    loose = root / "unlabeled/deep/er"
    assert cli.main(["init", str(loose), "--output", str(root / "a")]) == 2
    said = capsys.readouterr().err
    assert f"init: {loose} has no class folders, but 30 images without labels; put a few" in said


def test_images_beside_the_parts_are_unlabeled(root, capsys):
    for number, path in enumerate(sorted((root / "labeled").rglob("*.*"))):
        shutil.copy(path, root / f"{number}{path.suffix}")
    started([root, "--output", root / "a.json"], capsys)
    dataset = load_config(str(root / "a.json")).data.dataset
    assert dataset.unlabeled == root.as_posix()
    assert len(dataset.list_files(None).unlabeled) == 40 + 30


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
