"""Addresses of models on a server."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from keras_srt.core.errors import UserError

_MODEL_PATH = re.compile(
    r"(?P<prefix>.*)/v1/models/(?P<name>[^/:]+)(?P<version>/versions/\d+)?(:predict)?/?"
)


class Address(NamedTuple):
    """A parsed address.

    Attributes:
        root: Scheme, host, port and path prefix, such as "http://host:8501".
        name: Name of the model; None if neither the address nor the caller names one.
        version: Version of the model; None for the latest.
    """

    root: str
    name: str | None
    version: int | None


def parse_address(address: str, name: str | None = None) -> Address:
    """Parse `http://host:8501[/v1/models/NAME[/versions/N]]`.

    Args:
        address: The address; the scheme may be omitted.
        name: Name of the model, for addresses without one.

    Raises:
        UserError: The address is invalid, or it names another model.

    Example:
        >>> parse_address("host:8501/v1/models/digits/versions/3")
        Address(root='http://host:8501', name='digits', version=3)
    """
    parts = urlsplit(address if "://" in address else f"http://{address}")
    try:
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # the port is not a number
        valid = False
    path = parts.path.rstrip("/")
    match = _MODEL_PATH.fullmatch(path)
    if not valid or parts.query or parts.fragment or (path and not match):
        raise UserError(
            f"--server {address}: allowed: http://host:8501 or "
            "http://host:8501/v1/models/NAME[/versions/N]"
        )
    root = f"{parts.scheme}://{parts.netloc}"
    if match is None:
        return Address(root, name or None, None)
    in_address, version = unquote(match["name"]), match["version"]
    if name and in_address != name:
        raise UserError(f"--name {name}: the address names the model {in_address}; give one")
    number = int(version.rpartition("/")[2]) if version else None
    return Address(root + match["prefix"], in_address, number)
