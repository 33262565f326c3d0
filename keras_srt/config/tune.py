"""The `tune` section of a config: the search space and the tuner."""

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

# Other settings do not affect the model, or make trials incomparable (split, validation images).
_TUNABLE = ("model", "neighborhood", "objective", "training", "data.augmentation")
_LENGTHS = ("training.steps", "training.epochs")
_NOT_TUNABLE = ("training.strategy", "training.interval")
# Larger sets of corners are sampled.
_MAX_CORNERS = 1000


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
        min: The minimum.
        max: The maximum.
        sampling: "linear" or "log" (uniform in the logarithm).
        step: The difference ("linear") or ratio ("log") of consecutive values; null for any
            value. If min, max and step are whole numbers (3, not 3.0), so are the values.

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
        """Whether all values are whole numbers."""
        given = (self.min, self.max, *([] if self.step is None else [self.step]))
        return all(isinstance(number, int) for number in given)

    @property
    def values(self) -> Sequence[int | float] | None:
        """All values of a discrete range; None for a continuous one."""
        if self.step is None:
            counted = self.is_whole and self.sampling == "linear"
            return range(self.min, self.max + 1) if counted else None
        if self.sampling == "log":
            # Rounding can put the last value just above `max`; `_round` corrects it.
            count = int(math.log(self.max / self.min, self.step) + 1e-9) + 1
            return [self._round(self.min * self.step**index) for index in range(count)]
        count = int((self.max - self.min) / self.step + 1e-9) + 1
        return [self._round(self.min + self.step * index) for index in range(count)]

    @property
    def ends(self) -> tuple[int | float, ...]:
        """The smallest and the largest value; one value if they are equal."""
        values = self.values
        both = (self.min, self.max) if values is None else (values[0], values[-1])
        return tuple(dict.fromkeys(both))

    def at(self, fraction: float) -> int | float:
        """Return the value at a fraction, from 0 to 1, of the way from `min` to `max`."""
        if self.sampling == "log":
            return self._round(self.min * (self.max / self.min) ** fraction)
        return self._round(self.min + (self.max - self.min) * fraction)

    def _round(self, number: float) -> int | float:
        """Round to a whole number or to four digits, inside the range."""
        rounded = round(number) if self.is_whole else float(f"{number:.4g}")
        return min(max(rounded, self.min), self.max)


@component
class TuneSettings:
    """The settings of `keras-srt tune`.

    Args:
        space: Name of a setting, as in `--set` -> a list of values, or a `Range`.
        tuner: The keras-tuner algorithm: "random", "bayesian" or "hyperband".
        trials: The number of trainings; null for 20. With "hyperband" null: the number follows
            from `max_epochs` and `factor`.
        max_epochs: For "hyperband": the length of the longest training in units of the shortest
            one; null for 9.
        factor: For "hyperband": each round trains `factor` times as long, and keeps one of
            `factor` trials.
        steps: Training length, with "hyperband" of the longest training; null for the config's.
        seed: The seed of the search; trainings use the config's seed.
        failures: The number of consecutive failed trials that ends the search.
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
                f'trials: got {self.trials} with "hyperband"; allowed: null, because the number '
                "follows from max_epochs and factor"
            )
        if not hyperband and self.max_epochs is not None:
            problems.append(
                f'max_epochs: got {self.max_epochs} with "{self.tuner}"; allowed: null, because '
                'only "hyperband" uses it'
            )
        if not self.space:
            problems.append('space: got {}; allowed: an object {"training.learning_rate": […], …}')
        space = {name: _parse(name, value, problems) for name, value in self.space.items()}
        if hyperband or self.steps is not None:
            problems += [
                f'space.{name}: got a training length with "hyperband" or steps, which set it; '
                "allowed: other settings"
                for name in _LENGTHS
                if name in space
            ]
        if problems:
            raise InvalidSettings(problems)
        object.__setattr__(self, "space", space)
        if hyperband and self.max_epochs is None:  # the resolved config holds numbers
            object.__setattr__(self, "max_epochs", 9)
        if not hyperband and self.trials is None:
            object.__setattr__(self, "trials", 20)


def _parse(name: str, value: Any, problems: list[str]) -> tuple[Any, ...] | Range | None:
    """Parse an entry of the space; problems are appended to `problems`."""
    path = f"space.{name}"
    tunable = any(name == part or name.startswith(f"{part}.") for part in _TUNABLE)
    if not tunable or name in _NOT_TUNABLE or "" in name.split("."):
        problems.append(
            f"{path}: got a setting that must be equal in all trials; allowed: settings of "
            f"{', '.join(_TUNABLE)}, except {' and '.join(_NOT_TUNABLE)}"
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
    """Return the values of a discrete setting; None for a continuous one.

    Example:
        >>> choices(("srt", "rt")), choices(Range(min=0.0, max=1.0))
        (('srt', 'rt'), None)
    """
    return entry.values if isinstance(entry, Range) else entry


def corners(tune: TuneSettings) -> Iterator[dict[str, Any]]:
    """Yield the corners of the space: both ends of each range, and each value of each list.

    Args:
        tune: The search space and its seed.

    Yields:
        Setting -> value. If there are more than 1,000 corners, a random sample of 1,000.

    Example:
        >>> space = {"model.width": {"min": 2, "max": 8}, "objective.name": ["srt"]}
        >>> list(corners(TuneSettings(space=space)))[1]
        {'model.width': 8, 'objective.name': 'srt'}
    """
    sides = [entry.ends if isinstance(entry, Range) else entry for entry in tune.space.values()]
    if math.prod(map(len, sides)) <= _MAX_CORNERS:
        combinations: Iterator[tuple[Any, ...]] = itertools.product(*sides)
    else:
        draws = random.Random(tune.seed)
        combinations = (tuple(map(draws.choice, sides)) for _ in range(_MAX_CORNERS))
    return (dict(zip(tune.space, values, strict=True)) for values in combinations)
