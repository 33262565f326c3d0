"""Addresses of models."""

import pytest

from keras_srt.core.errors import UserError
from keras_srt.serving.client.address import parse_address


@pytest.mark.parametrize(
    ("address", "name", "expected"),
    [
        ("http://host:1/", "m", ("http://host:1", "m", None)),
        ("https://host", None, ("https://host", None, None)),
        ("host:1/v1/models/m", None, ("http://host:1", "m", None)),
        ("http://host:1/v1/models/a%20b:predict", "a b", ("http://host:1", "a b", None)),
        ("http://host:1/x/v1/models/m/versions/7", None, ("http://host:1/x", "m", 7)),
    ],
)
def test_valid_addresses(address, name, expected):
    assert parse_address(address, name) == expected


@pytest.mark.parametrize(
    "address",
    [
        "ftp://host:1",
        "http://",
        "http://host:99999999",
        "http://host:x",
        "http://host/path",
        "http://host/v1/models/",
        "http://host/v1/models/a/b",
        "http://host/v1/models/a?b=c",
    ],
)
def test_invalid_addresses_are_refused(address):
    with pytest.raises(UserError, match="allowed: http://host:8501 or") as caught:
        parse_address(address, "a")
    assert address in str(caught.value)


def test_two_names_are_refused():
    with pytest.raises(UserError, match="--name other: the address names the model m"):
        parse_address("http://host/v1/models/m", "other")
