"""Tiny trainings for tests."""

import contextlib
from collections import Counter

import pytest

from keras_srt.cli.output import shown_logs
from keras_srt.data import Digits
from keras_srt.data.source import InMemoryDataset
from keras_srt.models import SmallCNN
from keras_srt.pipeline import plan
from keras_srt.pipeline.context import RunContext
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.pipeline.train import train


def train_in(path, config, resume=False):
    """Trains a config in a folder, showing its log, and returns the run folder."""
    folder = RunFolder(path)
    folder.claim(config.to_json(), resume)
    with shown_logs():
        train(RunContext.open(config, folder, resume=resume))
    return folder


@contextlib.contextmanager
def counted_calls():
    """Counts how often the body plans, reads the digits and builds their classifier."""
    calls = Counter()

    def counted(owner, name):
        function = getattr(owner, name)

        def call(*args, **kwargs):
            calls[name] += 1
            return function(*args, **kwargs)

        patch.setattr(owner, name, call)

    with pytest.MonkeyPatch.context() as patch:
        counted(plan, "split_sizes")
        counted(SmallCNN, "build")
        counted(Digits, "open")
        counted(InMemoryDataset, "load_train")
        counted(InMemoryDataset, "load_test")
        yield calls
