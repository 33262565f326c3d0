"""Validators, and their messages."""

import math
from typing import Annotated, Literal

import numpy as np
import pytest
from pydantic import StrictBool

from keras_srt.core import validation
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import component
from keras_srt.neighborhoods import NEIGHBORHOODS, Composite, LInf, Spatial


@component
class Sample:
    """One setting of each kind."""

    share: Annotated[float, validation.real(0, 1)] = 0.5
    free: Annotated[float, validation.real()] = 0.0
    count: Annotated[int, validation.whole(1, 10)] = 1
    mode: Literal["fast", "slow"] = "fast"
    enabled: StrictBool = True
    title: str = "a title"
    sizes: tuple[Annotated[int, validation.whole(1)], ...] = (1,)


def problems_of(make, *args, **settings):
    """The lines of the one error that `make` raises."""
    with pytest.raises(InvalidSettings) as caught:
        make(*args, **settings)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("8/255", 8 / 255),
        (" 1 / 4 ", 0.25),
        ("0.5/2", 0.25),
        ("0/7", 0.0),
        (1, 1.0),
        (0.25, 0.25),
        (np.float32(0.25), 0.25),
    ],
)
def test_real_accepts_numbers_and_fractions(given, value):
    share = Sample(share=given).share
    assert share == value
    assert type(share) is float


@pytest.mark.parametrize("given", [1e39, -1e39])
def test_numbers_fit_into_float32(given):
    assert problems_of(Sample, free=given) == (
        f"free: got {given!r}; allowed: a number, within ±3.4e+38",
    )


def test_fraction_can_be_negative():
    assert Sample(free="-3/2").free == -1.5


@pytest.mark.parametrize(
    "given",
    [
        *("8/0", "8/0.0", "1/", "/2", "1/2/3", "0.3", "__import__('os')", "", "9" * 400 + "/1"),
        *(True, False, None, [0.5], math.nan, math.inf, -math.inf, 10**400),
        *(-0.1, 1.1, "3/2", "-1/2"),
    ],
)
def test_real_rejects_other_values(given):
    assert problems_of(Sample, share=given) == (
        f"share: got {given!r}; allowed: a number from 0 to 1",
    )


@pytest.mark.parametrize("given", [3, 3.0, np.int64(3), "6/2"])
def test_whole_accepts_whole_numbers(given):
    count = Sample(count=given).count
    assert count == 3
    assert type(count) is int


@pytest.mark.parametrize("given", [True, 0, 11, 2.5, "3", "5/2", None, math.nan])
def test_whole_rejects_other_values(given):
    assert problems_of(Sample, count=given) == (
        f"count: got {given!r}; allowed: a whole number from 1 to 10",
    )


@pytest.mark.parametrize(
    ("low", "high", "given", "allowed"),
    [
        (None, None, "x", "a number"),
        (2, None, 1, "a number of at least 2"),
        (None, 2, 3, "a number of at most 2"),
        (0.5, 2, 3, "a number from 0.5 to 2"),
    ],
)
def test_message_describes_the_range(low, high, given, allowed):
    @component
    class Ranged:
        value: Annotated[float, validation.real(low, high)]

    assert problems_of(Ranged, value=given) == (f"value: got {given!r}; allowed: {allowed}",)
    assert problems_of(Ranged) == ("value: missing; a value must be given",)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"mode": "fats"}, "mode: got 'fats'; allowed: 'fast' or 'slow'"),
        ({"enabled": 1}, "enabled: got 1; allowed: true or false"),
        ({"enabled": "yes"}, "enabled: got 'yes'; allowed: true or false"),
        ({"title": 3}, "title: got 3; allowed: a string"),
        ({"sizes": 3}, "sizes: got 3; allowed: a list […]"),
        ({"sizes": [1, 0]}, "sizes[1]: got 0; allowed: a whole number of at least 1"),
    ],
)
def test_messages_for_other_types(settings, line):
    assert problems_of(Sample, **settings) == (line,)


def test_unknown_key_suggests_a_similar_one():
    (line,) = problems_of(Sample, shaer=0.1)
    assert line == (
        "shaer: unknown key (value 0.1); allowed: share, free, count, mode, enabled, title, "
        "sizes; did you mean 'share'?"
    )


def test_unknown_key_without_a_similar_one():
    (line,) = problems_of(Sample, zzzz=0.1)
    assert "did you mean" not in line


def test_all_problems_are_reported_at_once():
    lines = problems_of(Sample, share=2, count=True, mode="x", wrong=1)
    assert sorted(line.split(":")[0] for line in lines) == ["count", "mode", "share", "wrong"]


def test_settings_are_keyword_only():
    (line,) = problems_of(LInf, 0.3, epsilon=0.3)
    assert "0.3" in line


def test_did_you_mean():
    assert validation.did_you_mean("lnif", ["linf", "l2", "spatial"]) == "; did you mean 'linf'?"
    assert validation.did_you_mean("qqq", ["linf", "l2", "spatial"]) == ""
    assert validation.did_you_mean(7, ["linf"]) == ""


def test_with_prefix_prepends_a_path():
    error = InvalidSettings(["a: x", "b: y"]).with_prefix("part")
    assert isinstance(error, ValueError)
    assert error.problems == ("part.a: x", "part.b: y")


def test_unknown_name_lists_the_known_ones():
    assert problems_of(NEIGHBORHOODS.build, {"name": "lnif"}) == (
        "name: got 'lnif'; allowed: " + ", ".join(NEIGHBORHOODS) + "; did you mean 'linf'?",
    )


@pytest.mark.parametrize("name", [3, ["linf"], {}, True])
def test_name_must_be_a_string(name):
    (line,) = problems_of(NEIGHBORHOODS.build, {"name": name})
    assert line.startswith(f"name: got {name!r}; allowed: linf, ")


def test_missing_name_lists_the_known_ones():
    (line,) = problems_of(NEIGHBORHOODS.build, {"epsilon": 0.3})
    assert line == "name: missing; allowed: " + ", ".join(NEIGHBORHOODS)


def test_problems_of_nested_composites_have_paths():
    stages = [
        {"name": "linf", "epsilon": 2},
        {"name": "spatail"},
        {
            "name": "composite",
            "stages": [
                {"name": "l2", "epsilon": "8/0"},
                {"name": "spatial", "grid": [5, 0, 5], "wrong": 1},
            ],
        },
    ]
    lines = problems_of(NEIGHBORHOODS.build, {"name": "composite", "stages": stages})
    assert sorted(line.split(":")[0] for line in lines) == [
        "stages[0].epsilon",
        "stages[1].name",
        "stages[2].stages[0].epsilon",
        "stages[2].stages[1].grid[1]",
        "stages[2].stages[1].wrong",
    ]


def test_problem_of_a_non_object_stage_has_a_path():
    (line,) = problems_of(Composite, stages=[LInf(epsilon=0.1), 5])
    assert line == 'stages[1]: got 5; allowed: an object with a name, {"name": …}'


@pytest.mark.parametrize("stages", [[], [{"name": "spatial"}], "linf", None, Spatial()])
def test_composite_needs_two_stages(stages):
    (line,) = problems_of(Composite, stages=stages)
    assert line.startswith("stages: got ")
    assert "allowed: a list of two or more neighborhoods" in line
