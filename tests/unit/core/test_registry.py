"""Components and registries."""

import dataclasses
import json
from typing import Annotated, ClassVar

import pytest

from keras_srt.attacks import ATTACKS, PGD, AutoAttack
from keras_srt.core import validation
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import Registry, component, settings_of
from keras_srt.core.tensorflow import keras
from keras_srt.data import DATASETS, AnyTFDS
from keras_srt.models import MODELS, ResNet
from keras_srt.neighborhoods import L2, NEIGHBORHOODS, Composite, LInf, Spatial
from keras_srt.objectives import OBJECTIVES, SRT


def fields_of(component):
    return {field.name: field for field in dataclasses.fields(component)}


REGISTRIES = {
    "neighborhoods": NEIGHBORHOODS,
    "objectives": OBJECTIVES,
    "attacks": ATTACKS,
    "models": MODELS,
    "datasets": DATASETS,
}

# Values for settings that have no default.
REQUIRED = {
    **{
        name: {"epsilon": 0.5} for name, attack in ATTACKS.items() if "epsilon" in fields_of(attack)
    },
    "linf": {"epsilon": "8/255"},
    "l2": {"epsilon": 0.5},
    "l0": {"epsilon": 10},
    "noise": {"sigma": 0.1},
    "pixel_dropout": {"share": "1/4"},
    "damage": {"share": "1/4"},
    "composite": {"stages": [{"name": "spatial"}, {"name": "linf", "epsilon": 0.1}]},
    "tfds": {"dataset": "fashion_mnist"},
    "folder": {"labeled": "photos"},
}
ALL = [(kind, name) for kind, registry in REGISTRIES.items() for name in registry]


@component
class Leaf:
    """A component with a rule about two settings."""

    name: ClassVar[str] = "leaf"

    low: Annotated[float, validation.real()] = 0.0
    high: Annotated[float, validation.real()] = 1.0

    def __post_init__(self):
        if self.low > self.high:
            raise InvalidSettings([f"low: got {self.low}; allowed: at most high"])


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_settings_round_trip_through_json(kind, name):
    registry = REGISTRIES[kind]
    made = registry.build({"name": name, **REQUIRED.get(name, {})})
    assert type(made) is registry[name]
    settings = settings_of(made)
    assert next(iter(settings)) == "name"
    assert settings["name"] == name
    assert registry.build(json.loads(json.dumps(settings))) == made


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_components_round_trip_through_get_config(kind, name):
    made = REGISTRIES[kind].build({"name": name, **REQUIRED.get(name, {})})
    config = json.loads(json.dumps(made.get_config()))
    assert config.keys() == fields_of(made).keys()
    assert type(made).from_config(config) == made


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_only_the_main_setting_may_be_positional(kind, name):
    made = REGISTRIES[kind].build({"name": name, **REQUIRED.get(name, {})})
    main = [field for field, one in fields_of(made).items() if not one.kw_only]
    assert len(main) <= 1
    values = made.get_config()
    arguments = [values.pop(field) for field in main]
    assert type(made)(*arguments, **values) == made
    with pytest.raises(TypeError, match=f"got {len(main) + 1} positional arguments; allowed: "):
        type(made)(*arguments, 3)


def test_the_main_setting_of_the_readme_examples():
    assert LInf("8/255") == LInf(epsilon=8 / 255)
    assert SRT(0.5) == SRT(robust_weight=0.5)
    assert PGD(0.1) == PGD(epsilon=0.1)
    assert AutoAttack("8/255") == AutoAttack(epsilon=8 / 255)
    assert Composite([LInf(0.1), Spatial(20)]).stages == (
        LInf(epsilon=0.1),
        Spatial(max_rotation=20),
    )


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_components_are_frozen(kind, name):
    made = REGISTRIES[kind].build({"name": name, **REQUIRED.get(name, {})})
    field = next((f.name for f in dataclasses.fields(made)), "anything")
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, field, 1)


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_every_component_rejects_unknown_settings(kind, name):
    with pytest.raises(InvalidSettings, match=r"^no_such_setting: unknown key"):
        REGISTRIES[kind].build({"name": name, **REQUIRED.get(name, {}), "no_such_setting": 1})


def test_settings_of_nested_components():
    both = Composite(stages=(LInf(epsilon="1/4", num_steps=3), Spatial(num_samples=2)))
    assert settings_of(both) == {
        "name": "composite",
        "stages": [
            {
                "name": "linf",
                "epsilon": 0.25,
                "num_steps": 3,
                "step_size": None,
                "random_start": True,
            },
            {
                "name": "spatial",
                "max_rotation": 30.0,
                "max_translation": 3.0,
                "search": "random",
                "num_samples": 2,
                "grid": [5, 5, 31],
            },
        ],
        "mode": "sequential",
    }


def test_settings_replace_functions_by_their_names():
    def my_loss(target, logits):
        return logits[:, 0]

    given = SRT(clean_loss=my_loss, robust_loss=keras.losses.CategoricalHinge())
    settings = settings_of(given)
    assert settings["clean_loss"] == "my_loss"
    assert settings["robust_loss"] == "categorical_hinge"


def test_components_with_equal_settings_are_equal():
    assert L2(epsilon="1/2") == L2(epsilon=0.5)
    assert L2(epsilon=0.5) != L2(epsilon=0.25)
    assert hash(L2(epsilon="1/2")) == hash(L2(epsilon=0.5))
    assert AnyTFDS(dataset="a").tfds_name == "a"


def test_post_init_problem_is_a_line_of_its_own():
    with pytest.raises(InvalidSettings) as caught:
        Leaf(low=2)
    assert caught.value.problems == ("low: got 2.0; allowed: at most high",)


def test_post_init_sees_validated_values():
    assert ResNet(filters=[4, 8.0]).filters == (4, 8)
    with pytest.raises(InvalidSettings, match=r"^filters: got \[8, 4\]"):
        ResNet(filters=(8, 4))


def test_registry_is_an_ordered_mapping():
    registry = Registry("thing", LInf, Leaf)
    assert list(registry) == ["linf", "leaf"]
    assert len(registry) == 2
    assert registry["leaf"] is Leaf
    assert "l2" not in registry


def test_build_does_not_change_the_settings():
    settings = {"name": "leaf", "low": -1}
    assert Registry("thing", Leaf).build(settings) == Leaf(low=-1)
    assert settings == {"name": "leaf", "low": -1}


@pytest.mark.parametrize("settings", ["linf", None, [1], 3])
def test_settings_must_be_an_object(settings):
    with pytest.raises(InvalidSettings, match="an object with a name"):
        NEIGHBORHOODS.build(settings)
