"""Configs: errors and their messages, variants, overrides, and the JSON round trip."""

import copy
import json
import os
import random
import threading
from pathlib import Path

import pytest
from helpers import ROOT, python, tiny

from keras_srt.config import loader as configs
from keras_srt.config.schema import Config
from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.pipeline.configs import COMPONENTS

CONFIG_FILES = sorted((ROOT / "configs").glob("*.json"))


@pytest.fixture
def load(tmp_path):
    """Writes settings (or text) to a file and loads it."""

    def run(settings, variant=None, overrides=()):
        path = tmp_path / "config.json"
        text = settings if isinstance(settings, str) else json.dumps(settings)
        path.write_text(text)
        return configs.load(path, COMPONENTS, variant, overrides)

    return run


def problems(load, *arguments, **keywords):
    with pytest.raises(InvalidSettings) as caught:
        load(*arguments, **keywords)
    return caught.value.problems


# One wrong setting: one line that says where, what was given and what is allowed.


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("seed", -1, ["seed: got -1", "0 to"]),
        ("seed", True, ["seed: got True", "whole number"]),
        ("seed", "1", ["seed: got '1'", "whole number"]),
        ("seed", 1.5, ["seed: got 1.5", "whole number"]),
        ("seed", None, ["seed: got None", "whole number"]),
        ("seed", [], ["seed: got []", "whole number"]),
        ("name", "a/b", ["name: got 'a/b'"]),
        ("name", "../x", ["name: got '../x'"]),
        ("name", 3, ["name: got 3", "a string"]),
        ("export", 3, ["export: got 3", "a string"]),
        ("data", [], ["data: got []", "an object"]),
        ("data__labeled", 0, ["data.labeled: got 0", "at least 1"]),
        ("data__labeled", "40", ["data.labeled: got '40'", "whole number"]),
        ("data__selection", "chance", ["data.selection: got 'chance'", "stratified"]),
        ("data__dataset", "digit", ["data.dataset", "got 'digit'", "did you mean 'digits'"]),
        ("data__dataset", 7, ["data.dataset: got 7"]),
        ("data__dataset__size", 7, ["data.dataset.size: got 7", "8 to 512"]),
        ("data__augmentation", {"flip": 1}, ["data.augmentation.flip: got 1", "true or false"]),
        ("data__augmentation", {"pads": 1}, ["data.augmentation.pads", "did you mean 'pad'"]),
        ("model__width", 0, ["model.width: got 0", "at least 1"]),
        ("model__witdh", 4, ["model.witdh", "did you mean 'width'"]),
        ("model", {"width": 4}, ["model.name: missing", "small_cnn"]),
        ("neighborhood__epsilon", -1, ["neighborhood.epsilon: got -1", "0 to 1"]),
        ("neighborhood__epsilon", "8/0", ["neighborhood.epsilon: got '8/0'", "0 to 1"]),
        ("neighborhood__epsilon", "300/255", ["neighborhood.epsilon: got '300/255'", "0 to 1"]),
        ("neighborhood__epsilon", "1+1", ["neighborhood.epsilon: got '1+1'"]),
        ("neighborhood__epsilon", "__import__('os')", ["neighborhood.epsilon: got"]),
        ("neighborhood__epsilon", False, ["neighborhood.epsilon: got False"]),
        ("neighborhood__random_start", 1, ["random_start: got 1", "true or false"]),
        ("objective__robust_weight", -0.1, ["objective.robust_weight: got -0.1"]),
        ("training__epochs", 3, ["training", "both of steps and epochs", "exactly one"]),
        ("training__steps", None, ["training", "neither of steps and epochs"]),
        ("training__step", 3, ["training.step", "did you mean 'steps'"]),
        ("training__labeled_per_batch", 16, ["labeled_per_batch: got 16", "below batch_size"]),
        ("training__learning_rate", "fast", ["training.learning_rate: got 'fast'", "a number"]),
        ("evaluation__masking", -1, ["evaluation.masking: got -1", "at least 0"]),
        ("evaluation__masking", "all", ["evaluation.masking: got 'all'", "whole number"]),
        ("training__precision", "float16", ["training.precision: got 'float16'", "float32"]),
        ("training__strength_warmup", 1.01, ["training.strength_warmup: got 1.01", "0 to 1"]),
        ("training__schedule", {"name": "step"}, ["milestones", "got []"]),
        ("training__schedule", {"milestones": [3]}, ["milestones: got [3]", "'constant'"]),
        ("training__schedule", {"name": "one_cycle"}, ["training.schedule.name", "linear"]),
        ("training__schedule", {"name": "step", "milestones": [6]}, ["milestones: got [6]", "6"]),
        (
            "training__schedule",
            {"name": "step", "milestones": [0]},
            ["training.schedule.milestones[0]: got 0", "at least 1"],
        ),
        ("evaluation__attacks", [], ["evaluation.attacks: got []", "at least one"]),
        ("evaluation__attacks", "pgd", ["evaluation.attacks: got 'pgd'", "a list"]),
        ("evaluation__attacks", ["fgms"], ["evaluation.attacks[0]", "did you mean 'fgsm'"]),
        ("evaluation__attacks", ["fgsm"], ["evaluation.attacks[0].epsilon: missing"]),
        (
            "evaluation__attacks",
            [{"name": "pgd", "epsilon": 0.1, "restarts": 2, "random_start": False}],
            ["evaluation.attacks[0].restarts: got 2", "random_start"],
        ),
        ("evaluation__limit", 0, ["evaluation.limit: got 0", "at least 1"]),
        ("evaluaton", {}, ["evaluaton", "did you mean 'evaluation'"]),
    ],
)
def test_invalid_setting_is_reported_in_one_line(load, path, value, words):
    (line,) = problems(load, tiny(**{path: value}))
    assert "\n" not in line
    for word in words:
        assert word in line


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_non_json_constants_are_rejected(load, constant):
    text = json.dumps(tiny()).replace('"seed": 0', "")
    text = text.replace('"learning_rate": 0.05', f'"learning_rate": {constant}')
    with pytest.raises(UserError, match=constant):
        load(text)


@pytest.mark.parametrize("huge", ["1e999", "9" * 400])
def test_numbers_beyond_float_are_rejected(load, huge):
    text = json.dumps(tiny()).replace('"learning_rate": 0.05', f'"learning_rate": {huge}')
    (line,) = problems(load, text)
    assert "training.learning_rate" in line


def test_duplicate_key_is_rejected(load):
    text = json.dumps(tiny()).replace('"labeled": 40', '"labeled": 40, "labeled": 50')
    with pytest.raises(UserError, match="'labeled'"):
        load(text)


@pytest.mark.parametrize("text", ["", "[]", "3", "null", '{"name": ', "{'name': 1}", "\x00"])
def test_file_must_hold_a_json_object(load, text):
    with pytest.raises(UserError, match=r"config\.json"):
        load(text)


def test_binary_file_is_rejected(tmp_path):
    (tmp_path / "x.json").write_bytes(b"\xff\xfe\x00{}")
    with pytest.raises(UserError, match=r"x\.json"):
        configs.load(tmp_path / "x.json", COMPONENTS)


@pytest.mark.parametrize("section", ["name", "data", "model", "neighborhood", "training"])
def test_missing_section_is_reported(load, section):
    settings = tiny()
    del settings[section]
    (line,) = problems(load, settings)
    assert line == f"{section}: missing; a value must be given"


def test_all_problems_are_reported_at_once(load):
    settings = tiny(
        data__labeled=0,
        model__name="small_cn",
        neighborhood__epsilon=2,
        training__steps="many",
        evaluation__limit=True,
    )
    lines = problems(load, settings)
    expected = (
        "data.labeled",
        "model.name",
        "neighborhood.epsilon",
        "training.steps",
        "evaluation.limit",
    )
    assert len(lines) == len(expected)
    for path in expected:
        assert sum(line.startswith(f"{path}: got ") for line in lines) == 1


def test_all_contradictions_are_reported(load):
    settings = tiny(
        objective={"name": "rt"}, training__schedule={"name": "step", "milestones": [3, 6, 7]}
    )
    lines = problems(load, settings)
    assert [line.partition(":")[0] for line in lines] == [
        "training.schedule.milestones",
        "training.labeled_per_batch",
    ]
    assert "[6, 7]" in lines[0]
    assert "'rt'" in lines[1]


def test_srt_without_unlabeled_images_is_rejected(load):
    (line,) = problems(load, tiny(data__unlabeled=0))
    assert "data.unlabeled" in line
    assert "'rt'" in line


# Overrides and variants.


@pytest.mark.parametrize(
    ("override", "get", "expected"),
    [
        ("seed=7", lambda c: c.seed, 7),
        ("name=other", lambda c: c.name, "other"),
        ('name="quoted"', lambda c: c.name, "quoted"),
        ("export=/a=b", lambda c: c.export, "/a=b"),
        ("neighborhood.epsilon=8/255", lambda c: c.neighborhood.epsilon, 8 / 255),
        ("neighborhood.epsilon=1e-2", lambda c: c.neighborhood.epsilon, 0.01),
        ("evaluation.limit=null", lambda c: c.evaluation.limit, None),
        ("data.augmentation.flip=true", lambda c: c.data.augmentation.flip, True),
        ("training.schedule.name=cosine", lambda c: c.training.schedule.name, "cosine"),
        ("training.epochs=2", lambda c: (c.training.steps, c.training.epochs), (None, 2)),
        ("training.steps=9", lambda c: (c.training.steps, c.training.epochs), (9, None)),
        ("model.mean=[0.5]", lambda c: c.model.mean, (0.5,)),
        (
            'evaluation.attacks=["pgd@0.3", "gridadv"]',
            lambda c: [a.name for a in c.evaluation.attacks],
            ["pgd", "gridadv"],
        ),
        ('training={"epochs": 3}', lambda c: c.training.epochs, 3),
        ("model=small_cnn", lambda c: c.model.width, 32),
        ("training.search.num_steps=1", lambda c: c.searched.num_steps, 1),
        ("training.search.num_steps=1", lambda c: c.searched.epsilon, 0.1),
        ("training.search.num_steps=1", lambda c: c.neighborhood.num_steps, 2),
        ("training.search.name=spatial", lambda c: c.searched.kind, "spatial"),
        ("teacher.temperature=0.5", lambda c: c.teacher.temperature, 0.5),
        ("objective=standard", lambda c: c.objective.name, "standard"),
    ],
)
def test_overrides(load, override, get, expected):
    extra = ["training.labeled_per_batch=null"] if override.startswith("objective") else []
    assert get(load(tiny(), overrides=[*extra, override])) == expected


def test_later_overrides_win(load):
    made = load(tiny(), overrides=["seed=1", "training.epochs=2", "seed=2", "training.steps=5"])
    assert made.seed == 2
    assert (made.training.steps, made.training.epochs) == (5, None)


@pytest.mark.parametrize("override", ["seed", "=3", ".seed=3", "data..labeled=3", "data.=3", ""])
def test_override_needs_a_key_and_a_value(load, override):
    (line,) = problems(load, tiny(), overrides=[override])
    assert line.startswith(f"--set {override}:")


def test_override_of_an_unknown_key_is_rejected(load):
    (line,) = problems(load, tiny(), overrides=["training.lerning_rate=1"])
    assert "did you mean 'learning_rate'" in line


def test_another_component_starts_from_its_defaults(load):
    made = load(tiny(), overrides=['neighborhood={"name": "spatial"}', "model.name=small_cnn"])
    assert made.neighborhood.name == "spatial"  # epsilon of linf would be unknown to it
    assert made.neighborhood.max_rotation == 30.0
    assert made.model.width == 2  # the same component keeps its settings


def test_variant_is_merged_and_renames_the_run(load):
    settings = tiny()
    settings["variants"] = {
        "fast": {
            "training": {"epochs": 2},
            "model": {"hidden": 4},
            "evaluation": {"attacks": [{"name": "fgsm", "epsilon": "1/2"}]},
        },
        "own": {"name": "own-name", "seed": 3},
    }
    plain, fast, own = load(settings), load(settings, "fast"), load(settings, "own")
    assert (plain.name, plain.variant) == ("tiny", None)
    assert (fast.name, fast.variant) == ("tiny-fast", "fast")
    assert (own.name, own.variant, own.seed) == ("own-name", "own", 3)
    assert (fast.training.steps, fast.training.epochs) == (None, 2)
    assert fast.training.batch_size == plain.training.batch_size == 16
    assert (fast.model.width, fast.model.hidden) == (2, 4)
    assert [attack.epsilon for attack in fast.evaluation.attacks] == [0.5]
    assert load(settings, "fast", ["model.hidden=5"]).model.hidden == 5
    (line,) = problems(load, settings, "fats")
    assert "did you mean 'fast'" in line


@pytest.mark.parametrize("variants", [[], "smoke", {"smoke": 3}, {"smoke": None}])
def test_variants_must_be_objects(load, variants):
    settings = {**tiny(), "variants": variants}
    (line,) = problems(load, settings, "smoke")
    assert "variant" in line


def test_config_round_trips_through_json(load):
    settings = tiny(
        neighborhood={
            "name": "composite",
            "stages": [{"name": "linf", "epsilon": "8/255"}, {"name": "spatial"}],
        },
        training__schedule={"name": "step", "milestones": [2, 4], "factor": 0.5},
        evaluation__attacks=["pgd@1/10", "gridadv", {"name": "pgd_plus", "epsilon": 0.1}],
        description="one line",
    )
    settings["teacher"] = {"training": {"steps": 3}, "teacher": {"temperature": 0.5}}
    settings["training"]["search"] = {"name": "linf", "epsilon": "9/255", "num_steps": 2}
    made = load(settings, overrides=["data.augmentation.pad=2"])
    again = load(made.to_json())
    assert again == made
    assert again.to_json() == made.to_json()
    assert made.description == ("one line",)
    assert load(settings) != made


# The configs of the repository.


@pytest.mark.parametrize("path", CONFIG_FILES, ids=lambda path: path.stem)
def test_every_config_in_the_repository_loads(path):
    content = json.loads(path.read_text())
    assert content["name"] == path.stem
    assert {"smoke", "quick"} <= set(content["variants"])
    for variant in content["variants"]:
        made = configs.load(path, COMPONENTS, variant)
        assert made.name == f"{path.stem}-{variant}"
        assert configs.parse(json.loads(made.to_json()), COMPONENTS) == made


@pytest.mark.parametrize("path", CONFIG_FILES, ids=lambda path: path.stem)
def test_every_config_describes_its_command(path):
    description = configs.load(path, COMPONENTS).description
    assert any(f"--config {path.name}" in line for line in description)
    assert not any("TODO" in line for line in description)


def test_repository_has_configs():
    assert "digits_pixel" in [path.stem for path in CONFIG_FILES]


def test_find_takes_paths_and_bare_names(tmp_path, monkeypatch):
    assert configs.find("digits_pixel.json").name == "digits_pixel.json"
    assert configs.find("digits_pixel") == configs.find("digits_pixel.json")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert configs.find("mine").resolve() == tmp_path / "configs" / "mine.json"
    assert configs.find("digits_pixel").is_file()
    for wrong in ("minee", "configs", "none/mine.json", ""):
        with pytest.raises(UserError, match="no such file"):
            configs.find(wrong)


def test_a_pipe_is_read_like_a_file(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_text, args=[json.dumps(tiny())], daemon=True).start()
    assert configs.find(str(pipe)) == pipe
    assert configs.load(pipe, COMPONENTS).name == "tiny"


@pytest.mark.parametrize("text", ["a\0b", "a\udc80b"], ids=["NUL", "not UTF-8"])
def test_texts_that_no_path_can_have_are_refused(text, tmp_path):
    config = tmp_path / "wrong.json"
    config.write_text(json.dumps(tiny(evaluation__attacks=[text]) | {"export": text}))
    with pytest.raises(InvalidSettings) as caught:
        configs.load(config, COMPONENTS)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "evaluation.attacks[0]",
        "export",
    ]


def test_config_errors_do_not_import_tensorflow(tmp_path):
    config = tmp_path / "wrong.json"
    config.write_text(json.dumps(tiny(data__labeled=0)))
    code = (
        "import sys; from keras_srt.cli import main as cli;"
        f"code = cli.main(['train', '--config', {str(config)!r}]);"
        "print(code, [m for m in ('tensorflow', 'keras', 'tensorflow_addons') if m in sys.modules])"
    )
    process = python("-c", code)
    assert process.stdout.strip() == "2 []", process.stderr
    assert process.stderr.startswith("error: data.labeled: got 0")


# Whatever stands in the file: a config, or an error that says what is wrong.

_VALUES = (
    None, True, False, 0, -1, 1, 10**30, 0.5, -0.5, 1e300, "", "8/255", "8/0", "linf", "x", "@",
    "pgd@", "true", [], [[]], [None], [1, 2, 3], {}, {"name": None}, {"name": "linf"},
    {"name": "composite", "stages": []}, {"name": "pgd@0.1"}, {"name": 3}, {"x": {}},
)  # fmt: skip


def _places(value, path=()):
    """Every place in nested settings, as (container, key)."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inside in items:
        yield value, key
        if isinstance(inside, dict | list):
            yield from _places(inside, (*path, key))


def _mutated(generator):
    settings = copy.deepcopy(tiny(neighborhood__step_size=0.1, data__augmentation={"pad": 1}))
    settings["variants"] = {"smoke": {"training": {"steps": 2}}}
    for _ in range(generator.randint(1, 3)):
        container, key = generator.choice(list(_places(settings)))
        change = generator.choice(("replace", "replace", "delete", "add", "swap"))
        if change == "delete":
            del container[key]
        elif change == "add" and isinstance(container, dict):
            container[generator.choice(("x", "name", "steps", "epochs", "0"))] = 3
        elif change == "swap":
            other, its_key = generator.choice(list(_places(settings)))
            container[key] = copy.deepcopy(other[its_key])
        else:
            container[key] = copy.deepcopy(generator.choice(_VALUES))
        if not settings:
            break
    return settings


def _outcome(load, settings, variant):
    """The config or the lines that refuse it; any other error fails the test."""
    try:
        return load(settings, variant), None
    except InvalidSettings as error:
        return None, error.problems
    except UserError as error:
        return None, [str(error)]


@pytest.mark.parametrize("seed", range(0, 400, 100))
def test_mutated_config_loads_or_is_rejected_with_a_message(load, seed):
    loaded = 0
    for number in range(seed, seed + 100):
        generator = random.Random(number)
        settings, variant = _mutated(generator), generator.choice((None, "smoke"))
        made, problems = _outcome(load, settings, variant)
        if made is None:
            assert problems
            assert all(line and "\n" not in line for line in problems), problems
        else:
            loaded += 1
            assert isinstance(made, Config)
            assert load(made.to_json()) == made
    assert 0 < loaded < 100


def test_configs_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert configs.find("digits_pixel.json").parent == Path(ROOT / "configs")
