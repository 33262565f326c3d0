"""Roll back a training to its last finite state, with a lower learning rate."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from keras_srt.core.errors import NotFinite, UserError
from keras_srt.core.files import write_json
from keras_srt.pipeline.run_folder import RunFolder

if TYPE_CHECKING:
    from keras_srt.pipeline.context import RunContext

logger = logging.getLogger(__name__)


def read_rollbacks(folder: RunFolder) -> list[str]:
    """Read the reasons of the rollbacks of a run so far.

    Raises:
        UserError: The record of the rollbacks is damaged.
    """
    if not folder.rollbacks.is_file():
        return []
    try:
        rollbacks = json.loads(folder.rollbacks.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        rollbacks = None
    if not isinstance(rollbacks, list) or not all(isinstance(text, str) for text in rollbacks):
        raise UserError(
            f"{folder.rollbacks}: can't be read; allowed: the file that the run wrote; restore it, "
            "or remove it to continue with the learning rate of the config"
        )
    return rollbacks


def rolled_back(context: RunContext, rollbacks: list[str]) -> RunContext:
    """Return the run with the learning rate that is left after its rollbacks."""
    # Every schedule is a multiple of its highest rate.
    return context.with_learning_rate(_rate(context, len(rollbacks))) if rollbacks else context


def roll_back(context: RunContext, reason: str, rollbacks: list[str]) -> None:
    """Record a rollback, so that a resumed run keeps the lower learning rate.

    Args:
        context: The run; its learning rate is the original one.
        reason: What isn't finite.
        rollbacks: The reasons of the rollbacks so far.

    Raises:
        NotFinite: The config allows no rollback, or no more; with the reason.
    """
    policy = context.config.training.on_nan
    if policy.name == "stop":
        raise NotFinite(reason)
    if len(rollbacks) >= policy.retries:
        raise NotFinite(f"{reason} (training.on_nan rolled back {policy.retries} times)")
    rollbacks = [*rollbacks, reason]
    write_json(context.folder.rollbacks, rollbacks)
    logger.warning(
        "%s; rolling back to the last finite state with a learning rate of %g (%d of %d)",
        reason.partition(";")[0],
        _rate(context, len(rollbacks)),
        len(rollbacks),
        policy.retries,
    )


def _rate(context: RunContext, num_rollbacks: int) -> float:
    training = context.config.training
    return training.learning_rate * training.on_nan.factor**num_rollbacks
