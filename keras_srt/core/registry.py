"""Components: classes whose annotated fields are their settings, found by name.

Neighborhoods, attacks, objectives, models and datasets are all components, so that
each is one file and one line in its registry, from Python and from JSON alike.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import pydantic
from typing_extensions import dataclass_transform

from keras_srt.core import validation
from keras_srt.core.errors import InvalidSettings


class Named(Protocol):
    """What the components of a registry have in common."""

    name: ClassVar[str]


T = TypeVar("T", bound=Named)
C = TypeVar("C", bound=type)


@dataclass_transform(kw_only_default=True, frozen_default=True)
def component(cls: C) -> C:
    """Makes the annotated fields of a class its settings: keyword-only, checked, frozen.

    Args:
        cls: a class with annotated fields, validated by `keras_srt.core.validation`.

    Returns:
        The class, as a frozen dataclass that raises `InvalidSettings` for bad values.

    Example:
        >>> from keras_srt.neighborhoods import LInf  # a component
        >>> LInf(epsilon="1/2").epsilon
        0.5
    """
    config = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    made = pydantic.dataclasses.dataclass(cls, frozen=True, kw_only=True, config=config)
    validated_init = made.__init__

    @functools.wraps(validated_init)
    def __init__(self: Any, *args: Any, **settings: Any) -> None:
        try:
            validated_init(self, *args, **settings)
        except pydantic.ValidationError as error:
            raise validation.problems_in(error, made) from None

    made.__init__ = __init__  # type: ignore[method-assign]  # the class is still in the making
    return made  # type: ignore[return-value]  # Pydantic's types forget which class it is


def settings_of(value: Any) -> Any:
    """The settings of a component as JSON-ready values, with its `name` first.

    Args:
        value: a component, or a value inside one.

    Returns:
        Dicts, lists, strings, numbers, booleans and None only; an object that is none
        of these (a loss given in Python, say) appears as its name.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = getattr(value, "name", None)
        named = {"name": name} if isinstance(name, str) else {}
        fields = {f.name: settings_of(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return named | fields
    if isinstance(value, Mapping):
        return {str(key): settings_of(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [settings_of(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return getattr(value, "__name__", None) or getattr(value, "name", type(value).__name__)


class Registry(Mapping[str, type[T]], Generic[T]):
    """The components of one kind, by name.

    Args:
        kind: what they are, for messages ("neighborhood").
        *classes: components with a `name`.

    Example:
        >>> from keras_srt.neighborhoods import NEIGHBORHOODS
        >>> NEIGHBORHOODS.build({"name": "linf", "epsilon": "8/255", "num_steps": 10}).num_steps
        10
    """

    def __init__(self, kind: str, *classes: type[T]) -> None:
        self.kind = kind
        self._classes = {cls.name: cls for cls in classes}

    def __getitem__(self, name: str) -> type[T]:
        return self._classes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)

    def build(self, settings: Mapping[str, Any]) -> T:
        """Makes the component that `settings["name"]` names from the other settings.

        Args:
            settings: `{"name": …, setting: value, …}`, as read from JSON.

        Returns:
            The component.

        Raises:
            InvalidSettings: the name is unknown or a setting is wrong.
        """
        if not isinstance(settings, Mapping):
            raise InvalidSettings(
                [f'got {settings!r}; allowed: an object with a name, {{"name": …}}']
            )
        given = dict(settings)
        name = given.pop("name", None)
        if name is None:
            listed = ", ".join(self)
            raise InvalidSettings([f"name: missing; allowed: {listed}"])
        if not isinstance(name, str) or name not in self._classes:
            raise InvalidSettings([validation.unknown_name("name", name, list(self))])
        return self._classes[name](**given)
