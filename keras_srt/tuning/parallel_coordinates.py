"""A parallel-coordinates figure of the trials."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from keras_srt.config.schema import Config
from keras_srt.config.tune import Range
from keras_srt.core import files
from keras_srt.report.figure_style import GREY, INK, STYLE
from keras_srt.tuning.trial_config import tune_of
from keras_srt.tuning.trial_results import Outcome, short_names, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

_FAILED = "#C9C9C9"
_TICKS = 5
_LONGEST = 16  # characters of a tick label


class Axis(NamedTuple):
    """A vertical axis.

    Attributes:
        title: The title of the axis.
        place: value -> height from 0 to 1.
        ticks: Height and label of each tick.
    """

    title: str
    place: Callable[[Any], float]
    ticks: list[tuple[float, str]]


def write_figure(config: Config, outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw one line per trial through its values to its robust accuracy.

    Args:
        config: The configuration of the search.
        outcomes: The trials, best first; at least the best did not fail.
        path: The PNG file to write.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    space = tune_of(config).space
    names = list(space)
    axes_of = [
        setting_axis(title, space[name])
        for title, name in zip(short_names(names), names, strict=True)
    ]
    if len({outcome.steps for outcome in outcomes}) > 1:
        axes_of.append(_steps_axis(outcomes))
    scores = [outcome.robust for outcome in outcomes if outcome.robust is not None]
    score_axis = _score_axis(min(scores), max(scores))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.9 * (len(axes_of) + 1) + 1.2, 4.6), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_title(
            f"{config.name}: {len(outcomes)} trials, the best one thick", loc="left", fontsize=11
        )
        colors = matplotlib.colormaps["viridis_r"]
        # The best trial is drawn last, on top.
        for rank, outcome in reversed(list(enumerate(outcomes))):
            _draw_trial(axes, outcome, [*axes_of], score_axis, colors, best=rank == 0)
        for position, axis in enumerate([*axes_of, score_axis]):
            _draw_axis(axes, position, axis)
        axes.set_xlim(-0.35, len(axes_of) + 0.45)
        axes.set_ylim(-0.06, 1.16)
        axes.set_axis_off()
        if any(outcome.robust is None for outcome in outcomes):
            figure.supxlabel("grey, dashed: trials that failed", fontsize=9, color=GREY)
        files.write_figure(path, figure)


def setting_axis(title: str, entry: tuple[Any, ...] | Range) -> Axis:
    """Make the axis of a setting: equal distances for a list, linear or logarithmic for a range.

    Example:
        >>> axis = setting_axis("width", (4, 8, "auto"))
        >>> axis.place(8), axis.ticks[0]
        (0.5, (0.0, '4'))
        >>> setting_axis("rate", Range(min=0.01, max=1.0, sampling="log")).place(0.1)
        0.5
    """
    if not isinstance(entry, Range):
        texts = [json.dumps(value) for value in entry]
        last = max(1, len(texts) - 1)
        ticks = [(index / last, shown(value)) for index, value in enumerate(entry)]
        return Axis(title, lambda value: texts.index(json.dumps(value)) / last, ticks)
    log = entry.sampling == "log"
    scale: Callable[[float], float] = math.log if log else float
    low, high = scale(entry.min), scale(entry.max)
    reach = (high - low) or 1.0

    def place(value: float) -> float:
        return round((scale(value) - low) / reach, 9)

    shares = [index / (_TICKS - 1) for index in range(_TICKS)]
    values = dict.fromkeys(entry.at(share) for share in shares)
    return Axis(title, place, [(place(value), shown(value)) for value in values])


def _steps_axis(outcomes: Sequence[Outcome]) -> Axis:
    steps = tuple(sorted({outcome.steps for outcome in outcomes}))
    return setting_axis("steps", steps)


def _score_axis(low: float, high: float) -> Axis:
    reach = (high - low) or 1.0
    values = [low + (high - low) * index / (_TICKS - 1) for index in range(_TICKS)]
    ticks = {(value - low) / reach: f"{100 * value:.1f}" for value in values}
    return Axis(
        "robust validation\naccuracy in %", lambda v: (v - low) / reach, list(ticks.items())
    )


def _draw_trial(
    axes: Axes,
    outcome: Outcome,
    settings: Sequence[Axis],
    score: Axis,
    colors: Colormap,
    best: bool,
) -> None:
    values = [*outcome.values.values(), outcome.steps][: len(settings)]
    heights = [axis.place(value) for axis, value in zip(settings, values, strict=True)]
    if outcome.robust is None:
        axes.plot(heights, color=_FAILED, ls="--", lw=1.1)
        return
    heights.append(score.place(outcome.robust))
    # The light end of the color map is hard to see on white.
    color = colors(0.12 + 0.88 * heights[-1])
    axes.plot(heights, color=color, lw=3.2 if best else 1.3, alpha=1.0 if best else 0.85)


def _draw_axis(axes: Axes, position: int, axis: Axis) -> None:
    axes.plot([position, position], [0, 1], color=INK, lw=1.1, zorder=3)
    axes.text(position, 1.06, axis.title, ha="center", va="bottom", fontsize=9.5)
    box = {"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
    for height, text in axis.ticks:
        short = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
        axes.plot([position - 0.02, position + 0.02], [height, height], color=INK, lw=1.1, zorder=3)
        axes.text(
            position + 0.05, height, short, va="center", fontsize=8, color=GREY, bbox=box, zorder=4
        )
