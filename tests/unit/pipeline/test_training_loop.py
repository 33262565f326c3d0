"""Training: a resumed run is equal to an uninterrupted one."""

import dataclasses
import json

import pytest
from helpers import tiny, write_config
from pooled_application import pretrained_model
from resumed_runs import check_resumed_run
from tiny_runs import train_in

from keras_srt.core.tensorflow import keras
from keras_srt.data import Folder
from keras_srt.pipeline import training_loop
from keras_srt.pipeline.configs import load_config
from keras_srt.pipeline.context import RunContext
from keras_srt.pipeline.plan import make_plan
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.pipeline.train import train
from keras_srt.pipeline.training_loop import is_trained

pytestmark = pytest.mark.usefixtures("eager", "untimed")


def test_a_resumed_run_is_bit_equal_to_an_uninterrupted_one(tmp_path, monkeypatch):
    check_resumed_run(tmp_path, monkeypatch, 4, "srt")


def test_a_run_that_is_resumed_in_its_frozen_phase_is_bit_equal(tmp_path, monkeypatch):
    model = pretrained_model(tmp_path, monkeypatch)
    frozen = {"training__freeze": 0.7, "training__ema": 0.9}
    check_resumed_run(tmp_path, monkeypatch, 4, "srt", model=model, **frozen)


def test_a_run_without_validation_keeps_the_last_classifier(tmp_path, monkeypatch):
    # The interruption is after the last step of an interval and before its checkpoint.
    check_resumed_run(tmp_path, monkeypatch, 6, "srt", data__validation=0)
    folder = RunFolder(tmp_path / "whole")
    rows = folder.read_history()
    assert not [name for name in rows[-1] if name.startswith("val_")]
    best = json.loads((folder.checkpoints / "best.json").read_text())
    assert (best["step"], best.keys() & {"val_robust_accuracy"}) == (int(rows[-1]["step"]), set())
    assert json.loads(folder.split.read_text())["validation"] == []


def test_the_hint_about_a_long_training_fits_the_dataset(tmp_path):
    config = load_config(str(write_config(tmp_path, tiny())))
    assert "--variant quick takes minutes" in training_loop._long_training_hint(config)
    own = dataclasses.replace(config.data, dataset=Folder(labeled="photos"))
    hint = training_loop._long_training_hint(dataclasses.replace(config, data=own))
    assert "variant" not in hint
    assert "lower training.steps or data.size" in hint


@pytest.mark.parametrize(
    ("num_validation", "steps", "count"),
    [(20, 100, 1), (19, 100, 5), (19, 4, 2), (19, 2, 1), (0, 9, 1)],
)
def test_few_images_select_by_the_mean_of_as_many_validations_as_there_are(
    num_validation, steps, count, tmp_path
):
    config = load_config(str(write_config(tmp_path, tiny())))
    plan = make_plan(config, config.data.dataset.open().info)
    plan = plan._replace(num_validation=num_validation, steps=steps, interval=2)
    assert training_loop.averaged_validations(plan, num_classes=2) == count


def early_stop(**more):
    """Settings of a run that stops after its second validation, as nothing gains 100%."""
    return {"training__early_stopping": {"patience": 1, "min_delta": 1.0}, **more}


def test_a_run_that_is_resumed_stops_early_as_an_uninterrupted_one(tmp_path, monkeypatch):
    check_resumed_run(tmp_path, monkeypatch, 4, "srt", **early_stop(training__strength_warmup=0.0))
    assert RunFolder(tmp_path / "whole").last_step == 6


def test_a_run_that_stopped_early_is_trained(tmp_path):
    settings = tiny(**early_stop(training__steps=20, training__interval=2))
    config = load_config(str(write_config(tmp_path, settings)))
    folder = train_in(tmp_path / "run", config)
    rows = folder.read_history()
    assert [(row["step"], row["validations_waited"]) for row in rows] == [("2", "0"), ("4", "1")]
    plan = make_plan(config, config.data.dataset.open().info)
    assert is_trained(folder, plan)
    assert not is_trained(folder, plan._replace(patience=2))
    assert train_in(folder.path, config, resume=True).read_history() == rows
    assert folder.last_step == 4


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
