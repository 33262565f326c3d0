"""The choice of network, image size and number of steps that fit into a time on this machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from keras_srt.core.formatting import format_count, format_duration, format_number

# A network is too slow if fewer steps fit; a training never has more than _MOST_STEPS.
FEWEST_STEPS, _MOST_STEPS = 1500, 6000
# With pretrained weights, the steps go by passes over the images: after fewer of them, the network
# isn't robust yet; after more, it overfits.
_FEWEST_PRETRAINED, _FEWEST_PASSES, _MOST_PASSES = 200, 40, 100
# Sizes for photos, and for any network that the user names.
_SIDES, _ALL_SIDES = (96, 128, 160, 224), (32, 48, 64, 96, 128, 160, 224)
PRETRAINED = "mobilenet_v2"  # the network for pretrained weights if the user names none
# The share of the time for the steps. The rest is for validation, evaluation and export.
_TRAINING_SHARE = 0.7


class Candidate(NamedTuple):
    """A network and the images that it is trained on.

    Attributes:
        model: The section `model` of the config.
        size: Height and width of the images.
        batch_size: Images per batch.
    """

    model: dict[str, Any]
    size: int
    batch_size: int

    @property
    def pretrained(self) -> bool:
        """Whether the network starts from pretrained weights."""
        return "weights" in self.model

    @property
    def title(self) -> str:
        """Name and width of the network."""
        width = self.model.get("width")
        return self.model["name"] + ("" if width is None else f" {format_number(width)}")


class Limits(NamedTuple):
    """The numbers of steps between which a training is planned.

    Attributes:
        fewest: A network is too slow if fewer steps fit.
        most: The largest number of steps.
    """

    fewest: int = FEWEST_STEPS
    most: int = _MOST_STEPS

    @classmethod
    def of_pretrained(cls, num_images: int, batch_size: int) -> Limits:
        """Return the limits for a network with pretrained weights.

        Example:
            >>> Limits.of_pretrained(243, 16)
            Limits(fewest=608, most=1519)
        """
        fewest, most = (
            max(_FEWEST_PRETRAINED, -(-passes * num_images // batch_size))
            for passes in (_FEWEST_PASSES, _MOST_PASSES)
        )
        return cls(min(FEWEST_STEPS, fewest), min(_MOST_STEPS, most))


# Returns the seconds of a training step.
Timer = Callable[[Candidate], float]


def by_pixels(timer: Timer) -> Timer:
    """Return a timer that times each network at one size, others in proportion to their pixels.

    Building a deep network takes longer than timing it.
    """
    known: dict[str, float] = {}

    def timed(candidate: Candidate) -> float:
        pixels = candidate.size**2 * candidate.batch_size
        if candidate.title not in known:
            known[candidate.title] = timer(candidate) / pixels
        return known[candidate.title] * pixels

    return timed


class Timed(NamedTuple):
    """A candidate and the seconds of its training step."""

    candidate: Candidate
    seconds: float

    def steps_in(self, seconds: float) -> int:
        """Return the number of steps that fit into the time of a whole run."""
        return int(_TRAINING_SHARE * seconds / self.seconds)


class Choice(NamedTuple):
    """A chosen network.

    Attributes:
        timed: The candidates that were timed, the fastest first.
        number: The number of the chosen one in `timed`.
        steps: The number of steps of its training.
        fewest: The number of steps of the shortest allowed training.
    """

    timed: tuple[Timed, ...]
    number: int
    steps: int
    fewest: int = FEWEST_STEPS

    @property
    def chosen(self) -> Candidate:
        """The chosen network."""
        return self.timed[self.number].candidate

    @property
    def step_seconds(self) -> float:
        """The seconds of its training step."""
        return self.timed[self.number].seconds

    @property
    def enough_time(self) -> float:
        """The seconds of a whole run with the shortest allowed training."""
        return self.fewest * self.step_seconds / _TRAINING_SHARE

    def advice(self) -> str:
        """Say how much time would be enough; empty if the training isn't too short."""
        if self.steps >= self.fewest:
            return ""
        minutes = math.ceil(self.enough_time / 60)
        enough = f"{minutes}m" if minutes < 120 else f"{math.ceil(minutes / 60)}h"
        return (
            f"warning: only {format_count(self.steps, 'step')} of {self.fewest:,} fit, and the "
            f"accuracy will be low; give --time {enough} or more"
        )

    def table(self) -> str:
        """Format the timed candidates, the slowest first, with the shortest allowed training."""
        rows = [("network", "size", "batch", "s a step", f"{self.fewest:,} steps", "")]
        for number, (candidate, seconds) in reversed([*enumerate(self.timed)]):
            sizes = (str(candidate.size), str(candidate.batch_size))
            shortest = format_duration(self.fewest * seconds)
            note = "too slow" if number > self.number else ""
            if number == self.number:
                note = f"chosen: {self.steps:,} steps in {format_duration(self.steps * seconds)}"
            rows.append((candidate.title, *sizes, f"{seconds:.2f}", shortest, note))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for name, *numbers, note in rows:
            right = [text.rjust(width) for text, width in zip(numbers, widths[1:], strict=False)]
            lines.append("  ".join([name.ljust(widths[0]), *right, note]).rstrip())
        return "\n".join(lines)


def candidates(
    size: int, channels: int, network: str | None = None, weights: str | None = None
) -> list[Candidate]:
    """List networks for images, the fastest first and the most accurate last.

    Args:
        size: The largest suitable height and width.
        channels: 1 for gray, 3 for color.
        network: The only network to list, at several sizes; None to list what suits the images.
        weights: Pretrained weights, see `keras_srt.models.applications.Application`.
    """
    if network is not None or weights is not None:
        model = {"name": network or PRETRAINED} | ({} if weights is None else {"weights": weights})
        sides, batch = (_ALL_SIDES, 32) if weights is None else (_SIDES, 16)
        return [Candidate(model, side, batch) for side in sides if side <= max(size, sides[0])]
    normalization = {"mean": [0.5], "std": [0.5]}
    small, middle = min(size, 32), min(size, 64)

    def cnn(width: int) -> Candidate:
        model = {"name": "small_cnn", "width": width, "dropout": 0.0, **normalization}
        return Candidate(model, small, 64)

    def resnet9(width: int, side: int) -> Candidate:
        return Candidate({"name": "resnet9", "width": width, **normalization}, side, 64)

    if channels == 1 and size < 64:  # small gray images, such as digits, need no deeper network
        return [cnn(16), cnn(32)]
    found = [cnn(16), *(resnet9(width, small) for width in (8, 16, 32))]
    if middle > small:
        found += [resnet9(16, middle)] + ([resnet9(32, middle)] if size < 96 else [])
    mobilenet = {"name": "mobilenet_v2"}
    return found + [Candidate(mobilenet, side, 32) for side in _SIDES if side <= size]


def choose(
    among: Sequence[Candidate],
    seconds: float,
    estimate: Timer,
    measure: Timer,
    limits: Limits | None = None,
) -> Choice:
    """Choose the slowest candidate that can be trained well in the given time, else the first.

    Args:
        among: The candidates, the fastest first.
        seconds: The time for a whole run.
        estimate: A fast estimate of the seconds of a step. No candidate after the first that is
            too slow is timed.
        measure: Measures the seconds of a step of a candidate that the estimate accepts.
        limits: The fewest and the most steps; None for those without pretrained weights.

    Returns:
        The choice, with the number of steps that fit.
    """
    limits = limits or Limits()
    timed: list[Timed] = []
    for candidate in among:
        timed.append(Timed(candidate, estimate(candidate)))
        if timed[-1].steps_in(seconds) < limits.fewest:
            break
    fits = timed[-1].steps_in(seconds) >= limits.fewest
    number = len(timed) - (1 if fits or len(timed) == 1 else 2)
    while True:
        found = timed[number] = Timed(timed[number].candidate, measure(timed[number].candidate))
        steps = found.steps_in(seconds)
        if steps >= limits.fewest or number == 0:
            steps = max(1, min(limits.most, steps))
            return Choice(tuple(timed), number, steps, limits.fewest)
        number -= 1
