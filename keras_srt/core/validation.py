"""Validators of settings; messages give the received value and the allowed ones.

A validator annotates a field of a component (see `keras_srt.core.registry`):
`epsilon: Annotated[float, real(0, 1)]`.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, get_args

import pydantic
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from keras_srt.core.errors import InvalidSettings

if TYPE_CHECKING:

    class FloatOrFraction:
        """A float attribute that may be set to a fraction such as `"8/255"`."""

        def __get__(self, instance: object, owner: Any = None) -> float: ...
        def __set__(self, instance: object, value: float | str) -> None: ...
else:
    FloatOrFraction = float

_FRACTION = re.compile(r"\s*([+-]?\d+(?:\.\d*)?)\s*/\s*(\d+(?:\.\d*)?)\s*")


def parse_number(value: Any) -> Any:
    """Convert a fraction such as `"8/255"` to a float; return other values unchanged.

    Args:
        value: A string `"a/b"`, or any other value.

    Returns:
        The quotient of a fraction, else `value`.

    Example:
        >>> parse_number("1/4")
        0.25
    """
    match = _FRACTION.fullmatch(value) if isinstance(value, str) else None
    if match is None or float(match[2]) == 0:
        return value
    return float(match[1]) / float(match[2])


def _describe_range(kind: str, low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return kind
    if high is None:
        return f"{kind} of at least {low:g}"
    if low is None:
        return f"{kind} of at most {high:g}"
    return f"{kind} from {low:g} to {high:g}"


# The largest float32, and the largest int32 (of whole numbers).
_LARGEST = {False: 3.4e38, True: 2**31 - 1}


def _number_validator(
    kind: str, whole_number: bool, low: float | None, high: float | None
) -> BeforeValidator:
    allowed = _describe_range(kind, low, high)

    def validate(value: Any) -> float | int:
        number = parse_number(value)
        try:
            # Python accepts booleans as integers and converts strings; both are rejected here.
            usable = not isinstance(number, bool | str) and math.isfinite(number)
            usable = usable and (not whole_number or int(number) == number)
            usable = usable and (low is None or number >= low)
            usable = usable and (high is None or number <= high)
        except (TypeError, OverflowError):
            usable = False
        if not usable:
            raise PydanticCustomError("allowed", "{allowed}", {"allowed": allowed})
        largest = _LARGEST[whole_number]
        if abs(number) > largest:
            bounded = {"allowed": allowed, "largest": f"{largest:.10g}"}
            raise PydanticCustomError("allowed", "{allowed}, within ±{largest}", bounded)
        return int(number) if whole_number else float(number)

    return BeforeValidator(validate)


def real(low: float | None = None, high: float | None = None) -> BeforeValidator:
    """Return a validator for a finite number, or a fraction such as `"8/255"`.

    Args:
        low: The minimum, or None.
        high: The maximum, or None.

    Returns:
        A validator for `typing.Annotated[float, ...]`.
    """
    return _number_validator("a number", False, low, high)


def whole(low: int | None = None, high: int | None = None) -> BeforeValidator:
    """Return a validator for a whole number; the arguments are those of `real`."""
    return _number_validator("a whole number", True, low, high)


def did_you_mean(given: Any, valid: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` if a valid name is similar to the given one, else ""."""
    close = difflib.get_close_matches(str(given), list(valid), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def unknown_name_message(path: str, given: Any, valid: Sequence[str]) -> str:
    """Return the problem line for a name that is not one of the valid names."""
    listed = ", ".join(valid)
    return f"{path}: got {given!r}; allowed: {listed}{did_you_mean(given, valid)}"


def _dotted(location: Iterable[str | int]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def _fields_at(cls: Any, location: Sequence[str | int]) -> list[str]:
    """The settings of the class at a path below `cls`."""
    for part in location:
        field = getattr(cls, "__pydantic_fields__", {}).get(part)
        kind = field.annotation if field is not None else cls
        # `Settings | None` -> `Settings`
        cls = next((k for k in get_args(kind) if k is not type(None)), kind)
    return list(getattr(cls, "__pydantic_fields__", {}))


def settings_problems(error: pydantic.ValidationError, cls: type) -> InvalidSettings:
    """Convert pydantic's errors about the settings of `cls` to one line each."""
    problems: list[str] = []
    for item in error.errors(include_url=False):
        location = item["loc"]
        path, kind, given = _dotted(location), item["type"], item["input"]
        nested = item.get("ctx", {}).get("error")
        if isinstance(nested, InvalidSettings):
            # `list[0]`, but `object.key`.
            problems.extend(
                f"{path}{'.' if path and problem[0] != '[' else ''}{problem}"
                for problem in nested.problems
            )
        elif kind in ("unexpected_keyword_argument", "extra_forbidden"):
            valid = _fields_at(cls, location[:-1])
            problems.append(
                f"{path}: unknown key (value {given!r}); allowed: {', '.join(valid)}"
                f"{did_you_mean(location[-1], valid)}"
            )
        elif kind.startswith("missing"):
            problems.append(f"{path}: missing; a value must be given")
        else:
            allowed = {
                "bool_type": "true or false",
                "bool_parsing": "true or false",
                "string_type": "a string",
                "dict_type": "an object {…}",
                "dataclass_type": "an object {…}",
                "list_type": "a list […]",
                "tuple_type": "a list […]",
            }.get(kind, item["msg"].removeprefix("Value error, "))
            allowed = allowed.removeprefix("Input should be ")
            problems.append(f"{path}: got {given!r}; allowed: {allowed}")
    return InvalidSettings(problems)
