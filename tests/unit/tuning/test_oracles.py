"""Oracles: seeds, and replay of a journal."""

import tempfile

import pytest

from keras_srt.config.tune import TuneSettings
from keras_srt.tuning.oracles import decode, make_oracle
from keras_srt.tuning.study import Search

SPACE = {
    "model.width": [2, 3],
    "training.learning_rate": {"min": 0.01, "max": 0.1, "sampling": "log"},
}


class Memory:
    """A journal that isn't a file."""

    def __init__(self, events=()):
        self.events = list(events)

    def read(self):
        return list(self.events)

    def add(self, event):
        self.events.append(event)


def values_of(tuner, seed=0, journal=None, **more):
    """All trials that an oracle gives where each has the score of its learning rate."""
    made = TuneSettings(space=SPACE, tuner=tuner, seed=seed, **more)
    oracle = make_oracle(made, journal if journal is not None else Memory())
    with tempfile.TemporaryDirectory() as directory:
        Search(oracle, None, directory)
        oracle.replay()
        return given_by(oracle, made)


def given_by(oracle, made):
    found = []
    while (trial := oracle.create_trial("tuner0")).status != "STOPPED" and len(found) < 40:
        values = decode(made, trial.hyperparameters.values)
        found.append((trial.trial_id, values))
        score = values["training.learning_rate"]
        oracle.update_trial(trial.trial_id, {"robust_accuracy": score})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    return found


OF_KIND = {
    "random": {"trials": 5},
    "bayesian": {"trials": 5},
    "hyperband": {"max_epochs": 4, "factor": 2, "steps": 4},
}


@pytest.mark.parametrize("tuner", OF_KIND)
def test_trials_are_a_function_of_the_seed(tuner):
    first = values_of(tuner, **OF_KIND[tuner])
    assert len(first) >= 5
    assert values_of(tuner, **OF_KIND[tuner]) == first
    assert values_of(tuner, seed=1, **OF_KIND[tuner]) != first
    for _, values in first:
        assert values["model.width"] in (2, 3)
        assert 0.01 <= values["training.learning_rate"] <= 0.1


@pytest.mark.parametrize("kept", [1, 4, 7])
@pytest.mark.parametrize("tuner", OF_KIND)
def test_an_interrupted_search_continues_with_the_same_trials(tuner, kept):
    journal = Memory()
    whole = values_of(tuner, journal=journal, **OF_KIND[tuner])
    cut = Memory(journal.events[:kept])
    done = sum(event["event"] == "end" for event in cut.events)
    assert values_of(tuner, journal=cut, **OF_KIND[tuner]) == whole[done:]
    assert cut.events == journal.events
