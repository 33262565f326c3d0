"""A config that is wrong is refused line by line, with its keys; any JSON is refused or works."""

import json

import pytest
from helpers import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_srt.config import loader as configs
from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.pipeline.configs import COMPONENTS, load_config

GROUP = "bad configs"
EXAMPLES = 1000

# Keys, and what stands there: another type, out of range, not a number of JSON, …
WRONG = {
    "name": ["", "a/b", "../up", 3, True],
    "seed": [-1, 2**31, 1.5, "x", True],
    "data.labeled": [0, -3, 2.5, "many", True, [40]],
    "data.validation": [0, "x"],
    "data.unlabeled": [-1, "all"],
    "data.selection": ["shuffled"],
    "data.dataset": ["nowhere", {"name": "digits", "size": 0}, {"name": 3}, [], None],
    "model": ["small_cn", {"name": "small_cnn", "width": 0}, {"width": 3}],
    "model.dropout": [1, -0.1, "half"],
    "neighborhood": [{"name": "linf"}, "spatial_", 7],
    "neighborhood.epsilon": [-0.1, 1.1, "8/0", "a/b", True, [0.1]],
    "neighborhood.num_steps": [0, 1.5],
    "objective": ["srtt", {"name": "srt", "robust_wait": 1}],
    "objective.robust_weight": [-1, True],
    "training.steps": [0, 1.5, "10", True],
    "training.epochs": [3],
    "training.batch_size": [1, 0, "x", 10**400],
    "training.labeled_per_batch": [16, 0],
    "training.optimizer": ["adam"],
    "training.learning_rate": [-0.1, "fast", 10**400],
    "training.schedule": ["step", {"name": "step"}, {"name": "line"}],
    "training.on_nan": ["roll_back", {"name": "go"}, {"name": "roll_back", "retries": 0}],
    "evaluation.attacks": [[], ["pgdd"], {}],
}
CASES = [(key, value) for key, values in WRONG.items() for value in values]
# What JSON itself doesn't allow, or what a typo makes of a key.
TEXTS = {
    "NaN": '{"seed": NaN}',
    "Infinity": '{"training": {"learning_rate": Infinity}}',
    "a key twice": '{"seed": 1, "seed": 2}',
    "nested too deeply": "[" * 100_000,
    "a list": "[]",
    "cut": '{"name": "x"',
    "empty": "",
}


def lines_of(folder, content):
    """The lines of the refusal."""
    path = folder / "config.json"
    path.write_text(content)
    with pytest.raises((InvalidSettings, UserError)) as caught:
        load_config(str(path))
    return str(caught.value).splitlines()


def with_value(key, value):
    found = place = tiny()
    *sections, last = key.split(".")
    for section in sections:
        place = place[section]
    place[last] = value
    return json.dumps(found)


@pytest.mark.parametrize(("key", "value"), CASES, ids=[f"{k}={str(v)[:20]}" for k, v in CASES])
def test_a_wrong_value_is_named_with_its_key(key, value, tmp_path):
    lines = lines_of(tmp_path, with_value(key, value))
    section = key.rpartition(".")[0] or key
    assert any(line.startswith((key, section)) or "config.json" in line for line in lines), lines
    assert all(len(line) < 2000 for line in lines)


@pytest.mark.parametrize("name", list(TEXTS))
def test_what_is_no_config_is_refused(name, tmp_path):
    assert "config.json" in lines_of(tmp_path, TEXTS[name])[0]


@pytest.mark.parametrize("key", ["sede", "training.learning_rte"])
def test_a_typo_is_answered_with_the_key_meant(key, tmp_path):
    (line,) = lines_of(tmp_path, with_value(key, 1))
    assert line.startswith(f"{key}: unknown key")
    assert "did you mean" in line


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [*WRONG, "export", "description", "variant", "data", "training", "evaluation"]
)


def test_any_value_anywhere_is_refused_or_works(record_property):
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
    @given(st.dictionaries(KEYS, JSON, min_size=1, max_size=3))
    def check(changes):
        found = tiny()
        for key, value in changes.items():
            place = found
            *sections, last = key.split(".")
            for section in sections:
                place = place[section] if isinstance(place.get(section), dict) else {}
            place[last] = value
        try:
            config = configs.parse(found, COMPONENTS)
        except (InvalidSettings, UserError):
            return  # and by nothing else
        assert configs.parse(json.loads(config.to_json()), COMPONENTS) == config

    check()
    record_property("cases", EXAMPLES)
