"""TF Serving's REST protocol: paths, errors and status, without a web framework.

Error messages equal those of TF Serving (`http_rest_api_util.cc`, `get_model_status_impl.cc`),
for clients that parse them.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

_VERSION = r"(?:(?:/versions/([0-9]+))|(?:/labels/([^/:]+)))?"
_CALL = re.compile(rf"/v1/models/([^/:]+){_VERSION}:(classify|regress|predict)", re.IGNORECASE)
_LOOK = re.compile(rf"/v1/models(?:/([^/:]+))?{_VERSION}(?:/(metadata))?", re.IGNORECASE)
_INT64_MAX = 2**63 - 1


class RequestError(Exception):
    """An error response.

    Attributes:
        code: HTTP status code.
        text: Message for the client.
        closes: Whether the connection is closed without reading the rest of the request.

    Example:
        >>> RequestError(400, "Is not object").body()
        b'{"error": "Is not object"}'
    """

    def __init__(self, code: int, text: str, closes: bool = False) -> None:
        super().__init__(text)
        self.code, self.text, self.closes = code, text, closes

    def headers(self) -> dict[str, str]:
        """Return the headers of the response, besides those of its content."""
        retry = {"retry-after": "1"} if self.code == 503 else {}
        return {**retry, "connection": "close"} if self.closes else retry

    def body(self) -> bytes:
        """Format the error as TF Serving does."""
        return to_json({"error": self.text})


def too_many_connections() -> RequestError:
    """Make the error for a connection that is closed for another one, or beyond the limit."""
    return RequestError(503, "The server is busy: too many connections", closes=True)


class Target(NamedTuple):
    """The model in the path of a request.

    Attributes:
        name: Name of the model.
        version: Version; None for the latest, or that of the label.
        label: Label of a version, such as "stable".
    """

    name: str
    version: int | None = None
    label: str | None = None

    @classmethod
    def of(cls, name: str, version: int | None, label: str | None = None) -> Target:
        """Make a target; version 0 is the latest, as OpenVINO's clients ask for it.

        Example:
            >>> Target.of("digits", 0)
            Target(name='digits', version=None, label=None)
        """
        return cls(name, version or None, label)

    def path(self) -> str:
        """Format the URL path of the model, percent-encoded."""
        version = "" if self.version is None else f"/versions/{self.version}"
        if self.label is not None:
            version = f"/labels/{quote(self.label, safe='')}"
        return f"/v1/models/{quote(self.name, safe='')}{version}"

    def missing(self) -> RequestError:
        """Make the error for a model or version that is not served."""
        which = (
            f"Latest({self.name})"
            if self.version is None
            else f"Specific({self.name}, {self.version})"
        )
        return RequestError(404, f"Servable not found for request: {which}")


class Call(NamedTuple):
    """Action and model of a request under `/v1`."""

    action: Literal["predict", "status", "metadata"]
    target: Target


def parse_path(method: str, path: str) -> Call:
    """Parse a path under `/v1`.

    Args:
        method: HTTP method.
        path: Percent-decoded path, without the query.

    Returns:
        Action and model.

    Raises:
        RequestError: 400, unknown path or wrong method.

    Example:
        >>> parse_path("POST", "/v1/models/digits/versions/3:predict")
        Call(action='predict', target=Target(name='digits', version=3, label=None))
    """
    pattern = {"POST": _CALL, "GET": _LOOK}.get(method)
    match = pattern.fullmatch(path) if pattern is not None else None
    if match is None:
        raise RequestError(400, f"Malformed request: {method} {path}")
    name, version, label, verb = match.groups()
    if name is None:
        raise RequestError(400, "Missing model name in request.")
    # Leading zeros don't count, and Python refuses to convert thousands of digits.
    digits = None if version is None else version.lstrip("0") or "0"
    if digits is not None and int(digits[:20]) > _INT64_MAX:
        raise RequestError(400, f"Failed to convert version: {digits[:40]} to numeric.")
    target = Target.of(name, None if digits is None else int(digits), label)
    if method == "GET":
        return Call("metadata" if verb else "status", target)
    if verb.lower() != "predict":
        raise RequestError(400, f":{verb} needs a model of that kind; allowed here: :predict")
    return Call("predict", target)


class VersionState(NamedTuple):
    """State of a model version.

    Attributes:
        version: Version number.
        state: START, LOADING, AVAILABLE, UNLOADING or END.
        error: Reason why the version could not be loaded, or "".
    """

    version: int
    state: str
    error: str = ""


def status_document(target: Target, states: list[VersionState]) -> dict[str, Any]:
    """Make the response to `GET /v1/models/NAME[/versions/N]`.

    Args:
        target: The requested model.
        states: States of all known versions.

    Returns:
        A JSON object, newest version first.

    Raises:
        RequestError: 404, the requested version is unknown.
    """
    chosen = [state for state in states if target.version in (None, state.version)]
    if not chosen:
        raise RequestError(404, f"Could not find version {target.version} of model {target.name}")
    return {
        "model_version_status": [
            {
                "version": str(state.version),
                "state": state.state,
                "status": {
                    "error_code": "UNKNOWN" if state.error else "OK",
                    "error_message": state.error,
                },
            }
            for state in sorted(chosen, key=lambda state: -state.version)
        ]
    }


def to_json(document: Any, allow_nan: bool = False) -> bytes:
    """Encode a response.

    Args:
        document: Plain Python values.
        allow_nan: Whether to write NaN and infinity as `NaN`, `Infinity` and `-Infinity`, which is
            not JSON, but what TF Serving writes for outputs.

    Returns:
        JSON text, UTF-8, without a final line break.

    Raises:
        ValueError: A number is NaN or infinite, and that is not allowed.
    """
    return json.dumps(document, ensure_ascii=False, allow_nan=allow_nan).encode("utf-8", "replace")
