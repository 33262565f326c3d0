"""The law of resumed runs."""

import numpy as np
import pytest
from helpers import tiny, write_config
from tiny_runs import train_in

from keras_srt.core.errors import Interrupted
from keras_srt.pipeline.classifiers import build_model, load_best_classifier
from keras_srt.pipeline.configs import load_config
from keras_srt.pipeline.plan import make_plan
from keras_srt.training import callbacks
from keras_srt.training.checkpoints import Checkpoints


def check_resumed_run(tmp_path, monkeypatch, at, objective, **changes):
    """A run that is interrupted at a step and resumed is bit-equal to an uninterrupted one."""
    settings = {
        "objective": {"name": objective},
        "training__steps": 10,
        "training__schedule": {"name": "cosine"},
        "training__strength_warmup": 0.5,
        "training__labeled_per_batch": 8 if objective == "srt" else None,
        "model__dropout": 0.5,
        "data__augmentation": {"pad": 2, "flip": True},
    }
    settings = tiny(**settings | changes)
    config = load_config(str(write_config(tmp_path, settings)))
    whole = train_in(tmp_path / "whole", config)

    class InterruptAt(callbacks.StopAtNaN):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.optimizer.iterations.numpy()) == at:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "StopAtNaN", InterruptAt)
        with pytest.raises(Interrupted, match=f"step {at}"):
            train_in(tmp_path / "cut", config)
    resumed = train_in(tmp_path / "cut", config, resume=True)

    info = config.data.dataset.open().info
    plan = make_plan(config, info)
    states = []
    for run in (whole, resumed):
        model = build_model(config, info, plan)
        assert Checkpoints(run.checkpoints, model).restore()
        states.append([v.numpy() for v in (*model.classifier.weights, *model.optimizer.variables)])
    assert any(np.any(value) for value in states[0][-4:])  # momentum, too
    for one, other in zip(*states, strict=True):
        np.testing.assert_array_equal(one, other)
    histories = [run.read_history() for run in (whole, resumed)]
    for rows in histories:
        for row in rows:
            row.pop("seconds")
    assert histories[1] == histories[0]  # losses, too
    assert whole.split.read_text() == resumed.split.read_text()
    best = [load_best_classifier(config, run, info).get_weights() for run in (whole, resumed)]
    for one, other in zip(*best, strict=True):
        np.testing.assert_array_equal(one, other)
