"""What a search leaves: a table, a figure, and the best settings as a config."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from keras_srt.config.schema import Config
from keras_srt.core.errors import UserError
from keras_srt.core.files import write_json
from keras_srt.pipeline.configs import COMPONENTS
from keras_srt.tuning.figure import write_figure
from keras_srt.tuning.trial_config import apply_values, tune_of
from keras_srt.tuning.trial_results import Outcome, markdown_table, ranked, shown, terminal_table


def conclude(
    config: Config, folder: Path, outcomes: Sequence[Outcome], gave_up: bool
) -> list[Outcome]:
    """Writes `trials.json`, `trials.md`, `trials.png` and `best.json`, and prints the table.

    Args:
        config: of the search.
        folder: of the search.
        outcomes: of its trials.
        gave_up: whether failed trials ended it.

    Returns:
        The outcomes, the best first.

    Raises:
        UserError: too many trials in a row failed.
    """
    made = ranked(outcomes)
    write_json(folder / "trials.json", [dataclasses.asdict(outcome) for outcome in made])
    text = f"# Trials of {config.name}\n\n{_note(config, made)}\n\n{markdown_table(made)}\n"
    (folder / "trials.md").write_text(text, encoding="utf-8")
    print(f"\n{terminal_table(made)}\n{_note(config, made)}", flush=True)
    best = made[0]
    if best.robust is not None:
        write_figure(config, made, folder / "trials.png")
        write_json(folder / "best.json", json.loads(best_config(config, best).to_json()))
        values = ", ".join(f"{name} {shown(value)}" for name, value in best.values.items())
        print(
            f"best        trial {best.trial}: {values}\nfigure      {folder / 'trials.png'}\n"
            f"train it    python train.py --config {folder / 'best.json'}",
            flush=True,
        )
    if gave_up:
        reason = next(outcome.reason for outcome in reversed(outcomes) if outcome.reason)
        failures = tune_of(config).failures
        raise UserError(
            f"tune: {failures} trials in a row failed, the last one because: {reason}; "
            "narrow tune.space, or raise tune.failures, in a new --run-dir"
        )
    return made


def best_config(config: Config, best: Outcome) -> Config:
    """The config of the search with the best values and its own length of training.

    Args:
        config: of the search.
        best: the trial.

    Returns:
        A config that `train.py --config` takes.

    Raises:
        ValueError: the trial failed.
    """
    if best.robust is None:
        raise ValueError(f"trial {best.trial} failed ({best.reason})")
    robust = f"{100 * best.robust:.1f}% of the validation images"
    description = [
        "python train.py --config best.json",
        f"Found by keras-srt tune: trial {best.trial} of {config.name}, right about {robust} under "
        f"attack after {best.steps} steps.",
    ]
    name = f"{config.name}-tuned"
    return apply_values(config, best.values, COMPONENTS, name=name, description=description)


def _note(config: Config, made: Sequence[Outcome]) -> str:
    failed = sum(outcome.robust is None for outcome in made)
    return (
        f"{len(made)} trials{f', {failed} failed' if failed else ''}; accuracy on "
        "the validation images; no test image was seen."
    )
