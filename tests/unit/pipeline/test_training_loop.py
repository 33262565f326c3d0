"""Training: a resumed run is equal to an uninterrupted one."""

import dataclasses

import pytest
from helpers import write_config
from pooled_application import pretrained_model
from resumed_runs import check_resumed_run

from keras_srt.core.tensorflow import keras
from keras_srt.pipeline.configs import load_config
from keras_srt.pipeline.context import RunContext
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.pipeline.train import train

pytestmark = pytest.mark.usefixtures("eager", "untimed")


def test_a_resumed_run_is_bit_equal_to_an_uninterrupted_one(tmp_path, monkeypatch):
    check_resumed_run(tmp_path, monkeypatch, 4, "srt")


def test_a_run_that_is_resumed_in_its_frozen_phase_is_bit_equal(tmp_path, monkeypatch):
    model = pretrained_model(tmp_path, monkeypatch)
    frozen = {"training__freeze": 0.7, "training__ema": 0.9}
    check_resumed_run(tmp_path, monkeypatch, 4, "srt", model=model, **frozen)


def test_callbacks_of_the_user_see_the_training_and_can_stop_it(tmp_path):
    config = load_config(str(write_config(tmp_path)))
    folder = RunFolder(tmp_path / "run")
    folder.claim(config.to_json(), False)

    class StopAfterTheFirstInterval(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(logs["val_robust_accuracy"])
            self.model.stop_training = True

    seen = []
    context = RunContext.open(config, folder)
    train(dataclasses.replace(context, callbacks=(StopAfterTheFirstInterval(),)))
    (row,) = folder.read_history()
    assert row["step"] == "3"
    assert seen == [pytest.approx(float(row["val_robust_accuracy"]))]
