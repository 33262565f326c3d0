"""keras-tuner's oracles, which choose the next trial, with a journal instead of their files."""

from __future__ import annotations

import random
import warnings
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_srt.config.tune import TuneSettings, choices
from keras_srt.core.errors import UserError
from keras_srt.tuning.journal import Journal

OBJECTIVE = "robust_accuracy"
_COMPLETED, _FAILED = TrialStatus.COMPLETED, TrialStatus.FAILED


class Journaled(keras_tuner.Oracle):
    """Mixin for an oracle that records its trials in a journal and can replay them.

    Args:
        journal: The journal of the search.
        failures: Number of consecutive failed trials that ends the search.
        **settings: Settings of the oracle.
    """

    ongoing_trials: dict[str, Trial]

    def __init__(self, journal: Journal, failures: int, **settings: Any) -> None:
        # keras-tuner's own limit raises inside a call, where workers don't get the reason.
        super().__init__(**settings, max_consecutive_failed_trials=10**9)
        self.verbose = 0
        self._journal, self._failures = journal, failures
        self._left: list[Trial] = []
        self._replaying = False

    def replay(self) -> None:
        """Repeat all events of the journal; call it once, after the tuner is set.

        Raises:
            UserError: The oracle gives other values, as another version of keras-tuner may.
        """
        events = self._journal.read()
        self._replaying = True
        owners = {}
        for number, event in enumerate(events, start=1):
            if event["event"] == "end":
                self._end_again(event)
                continue
            owners[event["trial"]] = event["tuner"]
            # With a separate tuner for each trial: a tuner that is gone may have left a trial.
            trial = self.create_trial(event["trial"])
            if (trial.trial_id, trial.hyperparameters.values) != (event["trial"], event["values"]):
                raise UserError(
                    f"event {number} of the journal can't be repeated: trial {event['trial']} "
                    f"would have other values now ({trial.hyperparameters.values}, not "
                    f"{event['values']}); continue with the keras-tuner version that started the "
                    "search, or give another --run-dir"
                )
        self._replaying = False
        self.tuner_ids.clear()  # active tuners register again
        unfinished = list(self.ongoing_trials.values())
        self.ongoing_trials = {owners[trial.trial_id]: trial for trial in unfinished}
        self._left = [trial for trial in unfinished if trial not in self.ongoing_trials.values()]

    def _end_again(self, event: dict[str, Any]) -> None:
        trial = self.trials[event["trial"]]
        trial.status = event["status"]
        if trial.status == _COMPLETED:
            self.update_trial(trial.trial_id, {OBJECTIVE: event["score"]})
        self.end_trial(trial)

    @property
    def gives_up(self) -> bool:
        """Whether `failures` consecutive trials have failed."""
        last = [self.trials[trial_id] for trial_id in self.end_order[-self._failures :]]
        return len(last) == self._failures and all(trial.status == _FAILED for trial in last)

    @keras_tuner.synchronized
    def create_trial(self, tuner_id: str) -> Trial:
        """Return the next trial, or the unfinished trial of this tuner."""
        if tuner_id not in self.ongoing_trials:
            if self.gives_up:
                self.tuner_ids.discard(tuner_id)
                return Trial(self.get_space(), status=TrialStatus.STOPPED)
            if self._left:
                self.tuner_ids.add(tuner_id)
                self.ongoing_trials[tuner_id] = self._left.pop(0)
        known = set(self.trials)
        with warnings.catch_warnings():
            # scikit-learn warns about fits to few trials.
            warnings.simplefilter("ignore")
            trial = super().create_trial(tuner_id)
        if trial.trial_id in self.trials.keys() - known and not self._replaying:
            self._journal.add(
                {
                    "event": "begin",
                    "tuner": tuner_id,
                    "trial": trial.trial_id,
                    "values": trial.hyperparameters.values,
                }
            )
        return trial

    @keras_tuner.synchronized
    def end_trial(self, trial: Trial) -> None:
        """Record the result of a trial."""
        # Values lose digits on the way to a worker and back.
        trial.hyperparameters = self.trials[trial.trial_id].hyperparameters
        super().end_trial(trial)
        ended = self.trials[trial.trial_id]
        if not self._replaying:
            self._journal.add(
                {
                    "event": "end",
                    "trial": ended.trial_id,
                    "status": ended.status,
                    "score": ended.score,
                }
            )

    def hand_over(self) -> None:
        """Release the unfinished trials of tuners that are gone."""
        self._left += self.ongoing_trials.values()
        self.ongoing_trials = {}

    def save(self) -> None:
        """Do nothing: the journal is the state."""

    def reload(self) -> None:
        """Do nothing; see `replay`."""


class _Random(Journaled, keras_tuner.oracles.RandomSearchOracle):
    pass


class _Bayesian(Journaled, keras_tuner.oracles.BayesianOptimizationOracle):
    pass


class _Hyperband(Journaled, keras_tuner.oracles.HyperbandOracle):
    pass


def make_oracle(tune: TuneSettings, journal: Journal) -> Any:
    """Make a keras-tuner oracle without trials.

    Args:
        tune: The `tune` section of the configuration.
        journal: The journal of the search.

    Returns:
        The oracle; `decode` converts its values.
    """
    # keras-tuner treats seed 0 as None, and neighboring seeds give the same draws, shifted.
    seed = random.Random(tune.seed).randrange(1, 2**31)
    settings: dict[str, Any] = {
        "journal": journal,
        "failures": tune.failures,
        "objective": keras_tuner.Objective(OBJECTIVE, "max"),
        "hyperparameters": _hyperparameters(tune),
        "tune_new_entries": False,
        "allow_new_entries": False,
        "seed": seed,
    }
    if tune.tuner == "hyperband":
        return _Hyperband(**settings, max_epochs=tune.max_epochs, factor=tune.factor)
    cls = _Bayesian if tune.tuner == "bayesian" else _Random
    return cls(**settings, max_trials=tune.trials)


def _hyperparameters(tune: TuneSettings) -> keras_tuner.HyperParameters:
    """Make one number per setting: the index of a value, or the position in the range from 0 to 1.

    keras-tuner does not support lists of mixed types, of objects or with null, and its stepped
    ranges can lose the last value by rounding.
    """
    space = keras_tuner.HyperParameters()
    for name, entry in tune.space.items():
        values = choices(entry)
        if values is None:
            space.Float(name, 0.0, 1.0)
        else:
            space.Int(name, 0, len(values) - 1)
    return space


def decode(tune: TuneSettings, numbers: dict[str, Any]) -> dict[str, Any]:
    """Convert the numbers of a trial to values of settings.

    Example:
        >>> space = {"model.width": [4, 8], "training.ema": {"min": 0.0, "max": 0.5}}
        >>> decode(TuneSettings(space=space), {"model.width": 1, "training.ema": 0.5})
        {'model.width': 8, 'training.ema': 0.25}
    """
    decoded = {}
    for name, entry in tune.space.items():
        values = choices(entry)
        decoded[name] = entry.at(numbers[name]) if values is None else values[int(numbers[name])]
    return decoded
