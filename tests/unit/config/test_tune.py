"""The `tune` section of a config: values, errors, and the configs of trials."""

import dataclasses
import json

import pytest
from helpers import tiny

from keras_srt.config import loader as configs
from keras_srt.config.tune import Range, TuneSettings, choices, corners
from keras_srt.core.errors import InvalidSettings
from keras_srt.pipeline.configs import COMPONENTS
from keras_srt.tuning.trial_config import apply_values, check_space, trial_steps, with_length

RATE = {"min": 0.01, "max": 1.0, "sampling": "log"}


def searching(space, tune=(), **changes):
    settings = tiny(**changes) | {"tune": {"space": space, **dict(tune)}}
    return configs.parse(settings, COMPONENTS)


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        ({"min": 1, "max": 4}, [1, 2, 3, 4]),
        ({"min": 0.0, "max": 0.3, "step": 0.1}, [0.0, 0.1, 0.2, 0.3]),
        ({"min": 16, "max": 100, "step": 2, "sampling": "log"}, [16, 32, 64]),
        ({"min": 0.0, "max": 0.3}, None),
        ({"min": 1, "max": 100, "sampling": "log"}, None),
    ],
)
def test_values_of_ranges(settings, values):
    found = choices(Range(**settings))
    assert (None if found is None else list(found)) == values


def test_values_between_the_ends():
    assert Range(**RATE).at(0.0) == 0.01
    assert Range(**RATE).at(0.5) == 0.1
    assert Range(**RATE).at(1.0) == 1.0
    assert Range(min=1, max=100, sampling="log").at(0.5) == 10


@pytest.mark.parametrize(
    ("tune", "part"),
    [
        ({"space": {}}, "tune.space: got {}"),
        ({"space": {"data.labeled": [1]}}, "equal in all trials"),
        ({"space": {"training.interval": [1]}}, "equal in all trials"),
        ({"space": {"model.width": [2, 2]}}, "different values"),
        ({"space": {"model.width": 4}}, "allowed: a list of values"),
        ({"space": {"model.width": {"min": 4, "max": 2}}}, "max: got 2; allowed: at least min"),
        ({"space": {"model.width": {"min": True, "max": 2}}}, "allowed: a number"),
        ({"space": {"model.width": {"min": 0, "max": 2, "sampling": "log"}}}, "a number above 0"),
        ({"space": {"model.width": {"min": 1, "max": 2, "stepp": 1}}}, "stepp"),
        ({"space": {"model.width": [2]}, "tuner": "grid"}, "tune.tuner: got 'grid'"),
        ({"space": {"model.width": [2]}, "max_epochs": 3}, 'only "hyperband" uses it'),
        (
            {"space": {"model.width": [2]}, "tuner": "hyperband", "trials": 3},
            "follows from max_epochs",
        ),
        ({"space": {"training.steps": [2]}, "steps": 4}, "got a training length"),
    ],
)
def test_invalid_tune_sections_are_rejected(tune, part):
    with pytest.raises(InvalidSettings) as caught:
        configs.parse(tiny() | {"tune": tune}, COMPONENTS)
    assert part in str(caught.value)


def test_corners_are_range_ends_and_all_list_values():
    tune = TuneSettings(space={"model.x": RATE, "model.y": [1, 2]})
    assert list(corners(tune)) == [
        {"model.x": 0.01, "model.y": 1}, {"model.x": 0.01, "model.y": 2},
        {"model.x": 1.0, "model.y": 1}, {"model.x": 1.0, "model.y": 2},
    ]  # fmt: skip


def test_trial_config_has_its_values_and_no_tune_section():
    config = searching({"model.width": [2, 3]})
    made = apply_values(config, {"model.width": 3}, COMPONENTS, name="t")
    resolved, trial = json.loads(config.to_json()), json.loads(made.to_json())
    assert trial["model"].pop("width") == 3
    assert resolved["model"].pop("width") == 2
    assert (trial.pop("name"), trial.pop("tune")) == ("t", None)
    resolved.pop("name")
    resolved.pop("tune")
    assert trial == resolved


def test_invalid_values_are_found_before_the_first_trial():
    config = searching({"model.width": [2, 0], "training.learning_rate": RATE})
    with pytest.raises(InvalidSettings, match=r"with model\.width=0.*model\.width: got 0"):
        check_space(config, COMPONENTS)
    check_space(searching({"model.width": [2, 3]}), COMPONENTS)
    with pytest.raises(InvalidSettings, match="nonsense"):
        check_space(searching({"model.nonsense": [2]}), COMPONENTS)


def test_hyperband_needs_enough_steps():
    tune = {"tuner": "hyperband", "max_epochs": 3}
    config = with_length(searching({"model.width": [2]}, tune))
    assert config.tune.steps == 6
    assert [trial_steps(config.tune, part) for part in (1, 3)] == [
        {"training.steps": 2},
        {"training.steps": 6},
    ]
    with pytest.raises(InvalidSettings, match=r"tune\.max_epochs: got 9 parts of 6 steps"):
        with_length(searching({"model.width": [2]}, {"tuner": "hyperband"}))
    with pytest.raises(InvalidSettings, match="tune: missing"):
        with_length(configs.parse(tiny(), COMPONENTS))


def test_a_search_needs_validation_images():
    config = searching({"model.width": [2]})
    none = dataclasses.replace(config, data=dataclasses.replace(config.data, validation=0))
    with pytest.raises(InvalidSettings, match=r"data\.validation: got 0 in a search"):
        with_length(none)
