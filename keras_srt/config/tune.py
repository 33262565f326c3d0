"""The `tune` section of a config: which settings are searched, in which values, and how."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.registry import component
from keras_srt.core.validation import parse_number, whole

# Other settings change what the trials are compared by (the split, the validation images), or
# nothing about the model.
_TUNED_PARTS = ("model", "neighborhood", "objective", "training", "data.augmentation")
_LENGTHS = ("training.steps", "training.epochs")
_SAME_FOR_ALL = ("training.strategy", "training.interval")
# More corners of a space than this are not all looked at.
_MOST_CORNERS = 1000


def _number(value: Any) -> Any:
    number = parse_number(value)
    usable = isinstance(number, int | float) and not isinstance(number, bool)
    if not usable or not math.isfinite(number):
        raise PydanticCustomError("allowed", "{allowed}", {"allowed": "a number"})
    return number


_Number = Annotated[Any, BeforeValidator(_number)]


@component
class Range:
    """Numbers from `min` to `max`, both included.

    Args:
        min: the least.
        max: the greatest.
        sampling: "linear", or "log" for equal chances of equal ratios.
        step: between two values: added with "linear", a factor with "log"; null for any value.
            Where min, max and step are whole numbers (3, not 3.0), so are the values.

    Example:
        >>> list(Range(min=16, max=128, sampling="log", step=2).values)
        [16, 32, 64, 128]
        >>> Range(min=1e-3, max=1e-1, sampling="log").at(0.5)
        0.01
    """

    min: _Number
    max: _Number
    sampling: Literal["linear", "log"] = "linear"
    step: _Number | None = None

    def __post_init__(self) -> None:
        log, problems = self.sampling == "log", []
        if self.max < self.min:
            problems.append(f"max: got {self.max}; allowed: at least min, which is {self.min}")
        if log and self.min <= 0:
            problems.append(f'min: got {self.min} with "log"; allowed: a number above 0')
        if self.step is not None and self.step <= (1 if log else 0):
            least = "a factor above 1" if log else "a number above 0"
            problems.append(f"step: got {self.step}; allowed: {least}, or null for any value")
        if problems:
            raise InvalidSettings(problems)

    @property
    def is_whole(self) -> bool:
        """Whether the values are whole numbers."""
        given = (self.min, self.max, *([] if self.step is None else [self.step]))
        return all(isinstance(number, int) for number in given)

    @property
    def values(self) -> Sequence[int | float] | None:
        """All of them where they can be counted, else None."""
        if self.step is None:
            counted = self.is_whole and self.sampling == "linear"
            return range(self.min, self.max + 1) if counted else None
        if self.sampling == "log":
            # Rounding may put the last one just above `max`.
            count = int(math.log(self.max / self.min, self.step) + 1e-9) + 1
            return [self._tidy(self.min * self.step**index) for index in range(count)]
        count = int((self.max - self.min) / self.step + 1e-9) + 1
        return [self._tidy(self.min + self.step * index) for index in range(count)]

    @property
    def ends(self) -> tuple[int | float, ...]:
        """The least and the greatest value, or the only one."""
        values = self.values
        both = (self.min, self.max) if values is None else (values[0], values[-1])
        return tuple(dict.fromkeys(both))

    def at(self, share: float) -> int | float:
        """The value at a share, from 0 to 1, of the way from `min` to `max`."""
        if self.sampling == "log":
            return self._tidy(self.min * (self.max / self.min) ** share)
        return self._tidy(self.min + (self.max - self.min) * share)

    def _tidy(self, number: float) -> int | float:
        """Four digits: nobody wants to read more, and no training notices."""
        tidy = round(number) if self.is_whole else float(f"{number:.4g}")
        return min(max(tidy, self.min), self.max)


@component
class TuneSettings:
    """Which settings `keras-srt tune` searches, and how.

    Args:
        space: name of a setting, as `--set` takes it -> a list of its values, or a `Range`.
        tuner: of keras-tuner, "random" search, "bayesian" optimization or "hyperband".
        trials: how many trainings; null for 20. Hyperband's number follows from `max_epochs`.
        max_epochs: for "hyperband", the parts in which it counts the length of a training: its
            shortest trials are one of so many parts long; null for 9.
        factor: for "hyperband", the length grows by it from round to round, and one of so many
            trials gets there.
        steps: length of a training, with "hyperband" of the longest; null for the config's own.
        seed: of the search; each training draws from the config's own seed.
        failures: as many failed trials in a row end the search.
    """

    space: dict[str, Any]
    tuner: Literal["random", "hyperband", "bayesian"] = "random"
    trials: Annotated[int, whole(1, 10_000)] | None = None
    max_epochs: Annotated[int, whole(1, 1000)] | None = None
    factor: Annotated[int, whole(2, 100)] = 3
    steps: Annotated[int, whole(1)] | None = None
    seed: Annotated[int, whole(0, 2**31 - 1)] = 0
    failures: Annotated[int, whole(1)] = 3

    def __post_init__(self) -> None:
        hyperband, problems = self.tuner == "hyperband", []
        if hyperband and self.trials is not None:
            problems.append(
                f'trials: got {self.trials} with "hyperband"; allowed: null, as the number '
                "follows from max_epochs and factor"
            )
        if not hyperband and self.max_epochs is not None:
            problems.append(
                f'max_epochs: got {self.max_epochs} with "{self.tuner}"; allowed: null; it is '
                '"hyperband" that needs it'
            )
        if not self.space:
            problems.append('space: got {}; allowed: an object {"training.learning_rate": […], …}')
        made = {name: _parse(name, value, problems) for name, value in self.space.items()}
        if hyperband or self.steps is not None:
            problems += [
                f'space.{name}: got a search of the length beside "hyperband" or steps, which '
                "set it; allowed: other settings"
                for name in _LENGTHS
                if name in made
            ]
        if problems:
            raise InvalidSettings(problems)
        object.__setattr__(self, "space", made)
        if hyperband and self.max_epochs is None:  # in the resolved config they are numbers
            object.__setattr__(self, "max_epochs", 9)
        if not hyperband and self.trials is None:
            object.__setattr__(self, "trials", 20)


def _parse(name: str, value: Any, problems: list[str]) -> tuple[Any, ...] | Range | None:
    """A list of values or a range; what is wrong goes to `problems`."""
    path = f"space.{name}"
    inside = any(name == part or name.startswith(f"{part}.") for part in _TUNED_PARTS)
    if not inside or name in _SAME_FOR_ALL or "" in name.split("."):
        problems.append(
            f"{path}: got a setting that is the same for all trials; allowed: one of "
            f"{', '.join(_TUNED_PARTS)} and below, but {' and '.join(_SAME_FOR_ALL)}"
        )
    if isinstance(value, list | tuple) and value:
        if len({repr(choice) for choice in value}) < len(value):
            problems.append(f"{path}: got {value!r}; allowed: different values")
        return tuple(value)
    if isinstance(value, Mapping):
        try:
            return Range(**value)
        except InvalidSettings as error:
            problems.extend(error.with_prefix(path).problems)
            return None
    if not isinstance(value, Range):
        problems.append(
            f'{path}: got {value!r}; allowed: a list of values, or {{"min": …, "max": …, '
            '"sampling": "linear" or "log", "step": …}}'
        )
    return value


def choices(entry: tuple[Any, ...] | Range) -> Sequence[Any] | None:
    """The values of a setting where they can be counted, else None.

    Example:
        >>> choices(("srt", "rt")), choices(Range(min=0.0, max=1.0))
        (('srt', 'rt'), None)
    """
    return entry.values if isinstance(entry, Range) else entry


def corners(tune: TuneSettings) -> Iterator[dict[str, Any]]:
    """Settings at the ends of all ranges with every value of the lists.

    Args:
        tune: with the space.

    Yields:
        Setting -> value. Of more than 1,000 combinations as many are drawn, from the seed.

    Example:
        >>> space = {"model.width": {"min": 2, "max": 8}, "objective.name": ["srt"]}
        >>> list(corners(TuneSettings(space=space)))[1]
        {'model.width': 8, 'objective.name': 'srt'}
    """
    sides = [entry.ends if isinstance(entry, Range) else entry for entry in tune.space.values()]
    if math.prod(map(len, sides)) <= _MOST_CORNERS:
        combinations: Iterator[tuple[Any, ...]] = itertools.product(*sides)
    else:
        draws = random.Random(tune.seed)
        combinations = (tuple(map(draws.choice, sides)) for _ in range(_MOST_CORNERS))
    return (dict(zip(tune.space, values, strict=True)) for values in combinations)
