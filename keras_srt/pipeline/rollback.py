"""What follows a loss or a weight that isn't finite: an end, or the last good state once more."""

from __future__ import annotations

import dataclasses
import json

from keras_srt.config.schema import Config
from keras_srt.core.errors import NotFinite, UserError
from keras_srt.core.files import write_json
from keras_srt.pipeline.run_folder import RunFolder


def lower_rate(config: Config, run: RunFolder) -> tuple[Config, list[str]]:
    """A config with the learning rate that is left after the retreats of its run.

    Args:
        config: of the run; its learning rate is the first one.
        run: its folder.

    Returns:
        The config, and the reasons of the retreats so far.

    Raises:
        UserError: the record of the retreats is damaged.
    """
    retreats = _read(run)
    if not retreats:
        return config, retreats
    training = config.training
    # Every schedule is a multiple of its highest rate.
    rate = training.learning_rate * training.on_nan.factor ** len(retreats)
    return (
        dataclasses.replace(config, training=dataclasses.replace(training, learning_rate=rate)),
        retreats,
    )


def go_back(config: Config, run: RunFolder, reason: str, retreats: list[str]) -> None:
    """Records a retreat, so that also a resumed run keeps to the lower rate.

    Args:
        config: of the run.
        run: its folder.
        reason: what isn't finite.
        retreats: the reasons of those before.

    Raises:
        NotFinite: the config allows no retreat, or no more of them; with the reason.
    """
    policy = config.training.on_nan
    if policy.name == "stop":
        raise NotFinite(reason)
    if len(retreats) >= policy.retries:
        raise NotFinite(f"{reason} (training.on_nan went back {policy.retries} times)")
    write_json(run.retreats, [*retreats, reason])
    rate = config.training.learning_rate * policy.factor ** (len(retreats) + 1)
    print(
        f"warning: {reason.partition(';')[0]}; going back to the last good state with a learning "
        f"rate of {rate:g} ({len(retreats) + 1} of {policy.retries})",
        flush=True,
    )


def _read(run: RunFolder) -> list[str]:
    if not run.retreats.is_file():
        return []
    try:
        retreats = json.loads(run.retreats.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        retreats = None
    if not isinstance(retreats, list) or not all(isinstance(text, str) for text in retreats):
        raise UserError(
            f"{run.retreats}: can't be read; allowed: what the run wrote; restore it, or remove it "
            "to go on with the learning rate of the config"
        )
    return retreats
