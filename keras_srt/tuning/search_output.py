"""Output files of a search: tables, a figure, and the best settings as a config."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from keras_srt.config.schema import Config
from keras_srt.core.errors import UserError
from keras_srt.core.files import write_json, write_text
from keras_srt.core.log_levels import RESULT
from keras_srt.pipeline.configs import COMPONENTS
from keras_srt.tuning.parallel_coordinates import write_figure
from keras_srt.tuning.trial_config import apply_values, tune_of
from keras_srt.tuning.trial_results import Outcome, markdown_table, ranked, shown, terminal_table

_log = logging.getLogger(__name__)


def write_search(
    config: Config, folder: Path, outcomes: Sequence[Outcome], gave_up: bool
) -> list[Outcome]:
    """Write `trials.json`, `trials.md`, `trials.png` and `best.json`, and log the table.

    Args:
        config: The configuration of the search.
        folder: The folder of the search.
        outcomes: The trials, in the order of their end.
        gave_up: Whether failed trials ended the search.

    Returns:
        The trials, best first.

    Raises:
        UserError: Too many consecutive trials failed.
    """
    made = ranked(outcomes)
    write_json(folder / "trials.json", [dataclasses.asdict(outcome) for outcome in made])
    text = f"# Trials of {config.name}\n\n{_note(config, made)}\n\n{markdown_table(made)}\n"
    write_text(folder / "trials.md", text)
    _log.log(RESULT, "\n%s\n%s", terminal_table(made), _note(config, made))
    best = made[0]
    if best.robust is not None:
        write_figure(config, made, folder / "trials.png")
        write_json(folder / "best.json", json.loads(best_config(config, best).to_json()))
        values = ", ".join(f"{name} {shown(value)}" for name, value in best.values.items())
        _log.log(RESULT, "best        trial %s: %s", best.trial, values)
        _log.log(RESULT, "figure      %s", folder / "trials.png")
        _log.log(RESULT, "train it    python train.py --config %s", folder / "best.json")
    if gave_up:
        reason = next(outcome.reason for outcome in reversed(outcomes) if outcome.reason)
        failures = tune_of(config).failures
        raise UserError(
            f"tune: {failures} trials in a row failed, the last one because: {reason}; "
            "narrow tune.space or increase tune.failures, in a new --run-dir"
        )
    return made


def best_config(config: Config, best: Outcome) -> Config:
    """Make a config with the best values and the configured length of training.

    Args:
        config: The configuration of the search.
        best: The best trial.

    Returns:
        A config for `train.py --config`.

    Raises:
        ValueError: The trial failed.
    """
    if best.robust is None:
        raise ValueError(f"trial {best.trial} failed ({best.reason})")
    robust = f"{100 * best.robust:.1f}% on the validation images"
    description = [
        "python train.py --config best.json",
        f"Found by keras-srt tune: trial {best.trial} of {config.name}, with a robust accuracy of "
        f"{robust} after {best.steps} steps.",
    ]
    name = f"{config.name}-tuned"
    return apply_values(config, best.values, COMPONENTS, name=name, description=description)


def _note(config: Config, made: Sequence[Outcome]) -> str:
    failed = sum(outcome.robust is None for outcome in made)
    return (
        f"{len(made)} trials{f', {failed} failed' if failed else ''}; accuracy on "
        "the validation images; test images were not used."
    )
