"""Configs of trials: the config of the search with other values."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

from keras_srt.config import loader as configs
from keras_srt.config.schema import Components, Config
from keras_srt.config.tune import TuneSettings, corners
from keras_srt.core.errors import InvalidSettings

_SHOWN = 5  # problems of a search space


def apply_values(
    config: Config, values: Mapping[str, Any], components: Components, **settings: Any
) -> Config:
    """Change settings of a config and remove its `tune` section.

    Args:
        config: The configuration of the search.
        values: Dotted name -> value; applied in this order, as by `--set`.
        components: The registries of components.
        **settings: Top-level settings, such as `name`.

    Returns:
        The validated config.

    Raises:
        InvalidSettings: The values are invalid, alone or together.
    """
    resolved = json.loads(config.to_json())
    del resolved["tune"]
    for name, value in values.items():
        for part in reversed(name.split(".")):
            value = {part: value}
        resolved = configs.merge(resolved, value)
    return configs.parse(configs.merge(resolved, settings), components)


def trial_steps(tune: TuneSettings, parts: int | None) -> dict[str, int]:
    """Return the setting for the length of a trial; empty for the config's own length.

    Args:
        tune: The `tune` section of the configuration.
        parts: Length of the trial in units of `tune.max_epochs`; None for the full length.

    Example:
        >>> space = {"training.learning_rate": [0.1]}
        >>> trial_steps(TuneSettings(space=space, tuner="hyperband", steps=900), parts=3)
        {'training.steps': 300}
    """
    if tune.steps is None:
        return {}
    share = 1.0 if parts is None or tune.max_epochs is None else parts / tune.max_epochs
    return {"training.steps": max(1, round(tune.steps * share))}


def tune_of(config: Config) -> TuneSettings:
    """Return the `tune` section of a config.

    Raises:
        InvalidSettings: There is no `tune` section.
    """
    if config.tune is None:
        raise InvalidSettings(
            ['tune: missing; give what to search, as "tune": {"space": {"training.learning_rate": '
             '{"min": 0.01, "max": 0.3, "sampling": "log"}}}']
        )  # fmt: skip
    return config.tune


def with_length(config: Config) -> Config:
    """Set `tune.steps` if Hyperband needs it, and check what a search needs.

    Raises:
        InvalidSettings: There is no `tune` section, the length can't change, or there are no
            validation images.
    """
    tune, training, problems = tune_of(config), config.training, []
    hyperband = tune.tuner == "hyperband"
    steps = tune.steps
    if hyperband and steps is None:
        steps = training.steps
        if steps is None:
            problems.append(
                "tune.steps: missing; allowed: steps of the longest trial, because the config "
                'counts training.epochs and "hyperband" needs parts of them'
            )
    if (hyperband or steps is not None) and training.schedule.milestones:
        problems.append(
            f"training.schedule.milestones: got {list(training.schedule.milestones)}, which are "
            'for one length, with tune.steps or "hyperband"; allowed: the schedule "cosine" or '
            '"constant"'
        )
    if tune.max_epochs is not None and steps is not None and steps < tune.max_epochs:
        problems.append(
            f"tune.max_epochs: got {tune.max_epochs} parts of {steps} steps; allowed: at most "
            f"{steps}"
        )
    if training.strategy == "multi_worker":
        problems.append(
            'training.strategy: got "multi_worker" in a search; allowed: "one_device" or '
            '"mirrored"; several machines share the trials instead, see docs/tuning.md'
        )
    if config.data.validation == 0:
        problems.append(
            "data.validation: got 0 in a search; allowed: null or at least 1, because validation "
            "images compare the trials"
        )
    if problems:
        raise InvalidSettings(problems)
    return dataclasses.replace(config, tune=dataclasses.replace(tune, steps=steps))


def check_space(
    config: Config, components: Components, check: Callable[[Config], object] | None = None
) -> None:
    """Check the corners of the search space before the first trial.

    Args:
        config: From `with_length`.
        components: The registries of components.
        check: A further check of a trial's config, which raises InvalidSettings.

    Raises:
        InvalidSettings: The first problems found.
    """
    tune = tune_of(config)
    problems: dict[str, str] = {}
    shortest = 1 if tune.tuner == "hyperband" else None
    for values in corners(tune):
        try:
            made = apply_values(config, values | trial_steps(tune, shortest), components)
            if check is not None:
                check(made)
        except InvalidSettings as error:
            shown = ", ".join(f"{name}={json.dumps(value)}" for name, value in values.items())
            for problem in error.problems:
                problems.setdefault(problem, f"tune.space: with {shown}: {problem}")
        if len(problems) >= _SHOWN:
            break
    if problems:
        raise InvalidSettings(problems.values())
