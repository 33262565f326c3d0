"""Components: classes whose annotated fields are their settings, found by name.

Neighborhoods, attacks, objectives, models and datasets are all components, so that
each is one file and one line in its registry, both from Python and from JSON.
"""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Generic, TypeVar

import pydantic
from typing_extensions import Self, dataclass_transform

from keras_srt.core import validation
from keras_srt.core.errors import InvalidSettings


class Component(ABC):
    """Base class of the components of a registry.

    Attributes:
        name: The name in configs and reports.
    """

    name: ClassVar[str]
    # A component is a dataclass: `dataclasses.replace` accepts every subclass.
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def get_config(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values, for `from_config`.

        Example:
            >>> from keras_srt.neighborhoods import Noise
            >>> Noise("1/10").get_config()
            {'epsilon': 0.1, 'sigma': None, 'num_samples': 1}
        """
        return {key: value for key, value in settings_of(self).items() if key != "name"}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Make a component from what `get_config` returned."""
        return cls(**config)


T = TypeVar("T", bound=Component)
C = TypeVar("C", bound=type)


# Not `frozen_default`: mypy then forgets what `FloatOrFraction` returns in subclasses.
@dataclass_transform(kw_only_default=True, field_specifiers=(dataclasses.field,))
def component(cls: C) -> C:
    """Make the annotated fields of a class its settings: keyword-only, validated, frozen.

    The main setting may be positional where it is declared with `kw_only=False`:
    `epsilon: Annotated[float, real(0)] = dataclasses.field(kw_only=False)`.

    Args:
        cls: A class with annotated fields, validated by `keras_srt.core.validation`.

    Returns:
        The class as a frozen dataclass that raises `InvalidSettings` for invalid values.

    Example:
        >>> from keras_srt.neighborhoods import LInf  # a component
        >>> LInf("1/2", num_steps=7).epsilon
        0.5
    """
    config = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    made = pydantic.dataclasses.dataclass(cls, frozen=True, kw_only=True, config=config)
    validated_init = made.__init__
    fields = dataclasses.fields(made)
    positional = [field.name for field in fields if not field.kw_only]
    keywords = [f"{field.name}=…" for field in fields if field.kw_only]

    @functools.wraps(validated_init)
    def __init__(self: Any, *args: Any, **settings: Any) -> None:
        if len(args) > len(positional):
            raise TypeError(
                f"{cls.__name__}: got {len(args)} positional arguments; allowed: "
                f"{' and '.join(positional) or 'none'}; pass the others by name: "
                f"{', '.join(keywords)}"
            )
        try:
            validated_init(self, *args, **settings)
        except pydantic.ValidationError as error:
            raise validation.settings_problems(error, made) from None

    made.__init__ = __init__  # type: ignore[method-assign]  # replaces pydantic's
    return made  # type: ignore[return-value]  # pydantic's types lose the class


def settings_of(value: Any) -> Any:
    """Return the settings of a component as JSON-ready values, with its `name` first.

    Args:
        value: A component, or a value inside a component.

    Returns:
        Dicts, lists, strings, numbers, booleans and None; any other object, such as a loss
        function, is replaced by its name.
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
    """A mapping of names to component classes of one kind.

    Args:
        kind: The kind, for messages ("neighborhood").
        *classes: The component classes.

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
        """Build a component from its settings.

        Args:
            settings: `{"name": …, setting: value, …}`, as read from JSON.

        Returns:
            The component.

        Raises:
            InvalidSettings: The name is unknown or a setting is invalid.
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
            raise InvalidSettings([validation.unknown_name_message("name", name, list(self))])
        return self._classes[name](**given)
