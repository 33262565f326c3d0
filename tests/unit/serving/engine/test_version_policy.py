"""The options for versions."""

import math

import pytest

from keras_srt.core.errors import UserError
from keras_srt.serving.engine.version_policy import parse_policy


def test_policies():
    for text, latest, specific in (
        ("latest", 1, set()),
        ("latest:3", 3, set()),
        ("all", math.inf, set()),
        ("specific:3,004", 0, {3, 4}),
    ):
        policy = parse_policy(text)
        assert (policy.latest, policy.specific) == (latest, specific)


def test_labels_of_a_model_come_before_those_of_all():
    policy = parse_policy("latest", ["stable=3", "digits:stable=4", "digits:canary=5"])
    assert policy.labels_of("digits") == {"stable": 4, "canary": 5}
    assert policy.labels_of("other") == {"stable": 3}


@pytest.mark.parametrize("text", ["", "latest:0", "latest:x", "specific:", "specific:1,", "all:2"])
def test_invalid_policies(text):
    with pytest.raises(UserError, match="allowed: latest, latest:2, all, specific:3,4"):
        parse_policy(text)


@pytest.mark.parametrize("text", ["stable", "=3", "stable=new", "a:b:c=3", "stable=-1"])
def test_invalid_labels(text):
    with pytest.raises(UserError, match="allowed: stable=3, digits:canary=4"):
        parse_policy("latest", [text])
