"""Trainings whose loss becomes NaN."""

from helpers import tiny

from keras_srt.config import loader as configs
from keras_srt.pipeline.configs import COMPONENTS
from keras_srt.training import callbacks


def configured(**changes):
    policy = {"name": "roll_back", "factor": 0.5, "retries": 2}
    return configs.parse(tiny(training__on_nan=policy, **changes), COMPONENTS)


def spoil(monkeypatch, step, rates):
    """The loss of a step is NaN as long as the learning rate is one of these."""

    class Watching(callbacks.StopAtNaN):
        def on_train_batch_end(self, batch, logs=None):
            now = int(self.model.optimizer.iterations.numpy())
            if now == step and float(self.model.optimizer.learning_rate.numpy()) in rates:
                logs = {**logs, "loss": float("nan")}
            super().on_train_batch_end(batch, logs)

    monkeypatch.setattr(callbacks, "StopAtNaN", Watching)
