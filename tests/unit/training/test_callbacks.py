"""What is said during a training, which of its classifiers is kept, and what memory it takes."""

import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import resident

from keras_srt.config.schema import EarlyStoppingSettings
from keras_srt.core import files
from keras_srt.core.progress import ProgressBar
from keras_srt.core.tensorflow import keras, tf
from keras_srt.data import Images
from keras_srt.neighborhoods import LInf
from keras_srt.objectives import SRT, Standard
from keras_srt.training import callbacks
from keras_srt.training.callbacks import ClassAccuracy, CollapseHint, Summaries, TrainingProgress
from keras_srt.training.checkpoints import Checkpoints
from keras_srt.training.model import RobustModel

LABELS = np.int32([0, 0, 0, 1, 2])


@pytest.mark.parametrize("accuracy", [0.6, 0.2])
def test_a_model_that_answers_one_class_is_pointed_out_once(accuracy, caplog):
    caplog.set_level(logging.INFO)
    hint = CollapseHint(LABELS, first_step=0)
    hint.on_epoch_end(0, {"val_accuracy": accuracy, "step": 100})
    (said,) = caplog.messages
    assert said.startswith(f"hint: {100 * accuracy:.1f}% clean")
    assert "training.learning_rate" in said
    hint.on_epoch_end(1, {"val_accuracy": accuracy, "step": 200})
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("logs", [{"val_accuracy": 0.61, "step": 100}, {}, None])
def test_better_than_one_class_is_not(logs, caplog):
    caplog.set_level(logging.INFO)
    CollapseHint(LABELS, first_step=0).on_epoch_end(0, logs)
    assert caplog.messages == []


@pytest.mark.parametrize(("first_step", "step"), [(0, 4), (0, 99), (300, 299)])
def test_one_class_is_usual_at_the_start_and_during_warmups(first_step, step, caplog):
    caplog.set_level(logging.INFO)
    hint = CollapseHint(LABELS, first_step)
    hint.on_epoch_end(0, {"val_accuracy": 0.2, "step": step})
    assert caplog.messages == []
    hint.on_epoch_end(1, {"val_accuracy": 0.2, "step": step + 1 if first_step else 100})
    assert len(caplog.messages) == 1


def test_the_terms_of_the_loss_have_the_same_order_with_each_keras():
    progress = TrainingProgress(10, 0, 0.5, validation_batches=3, shown=False)
    progress.on_train_batch_end(0, {"robust_loss": 1.0, "loss": 3.0, "clean_loss": 2.0})
    progress.close()
    assert list(progress._bar._values) == ["loss", "clean_loss", "robust_loss"]


def test_a_validation_has_a_bar_of_its_own(monkeypatch, capsys):
    bars = []

    class Recorded(ProgressBar):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            bars.append((args, self))

    monkeypatch.setattr(callbacks, "ProgressBar", Recorded)
    progress = TrainingProgress(10, 0, 0.5, validation_batches=3)
    progress.on_train_batch_end(0, {"loss": 1.0})
    progress.on_test_begin()
    progress.on_test_batch_end(0)
    progress.on_test_batch_end(1)
    progress.on_test_end()
    progress.on_epoch_end(0, {"loss": 1.0, "val_accuracy": 0.5})
    progress.close()
    (training, first), (validation, second) = bars
    assert (training[:3], first.done) == (("training", 10, "step"), 1)
    assert (validation, second.done) == (("validation", 3, "batch"), 2)
    line = "step      1 of 10  (0.5 passes over the labels)  loss 1.0000  validation: clean 50.0%\n"
    assert capsys.readouterr().out == line


class Rows:
    """A history, as `Checkpoints` has it."""

    _averaged, _selected_by = 1, "val_robust_accuracy"
    score = Checkpoints.score

    def __init__(self):
        self.rows = []


def stopped_after(scores, patience, min_delta=0.0, first_step=0):
    """The number of validations of a training that may stop early; each callback sees one."""
    rows, settings = Rows(), EarlyStoppingSettings(patience=patience, min_delta=min_delta)
    for step, score in enumerate(scores, 1):
        callback = callbacks.StopWithoutImprovement(settings, rows, first_step)
        callback.set_model(SimpleNamespace(stop_training=False))
        logs = {"step": step, "val_robust_accuracy": score}
        callback.on_epoch_end(step, logs)
        rows.rows.append(logs)
        if callback.model.stop_training:
            break
    return len(rows.rows)


@pytest.mark.parametrize("patience", [1, 2, 4])
@pytest.mark.parametrize("min_delta", [0.0, 0.07])
def test_an_early_stop_comes_when_that_of_keras_does(patience, min_delta):
    for seed in range(20):
        scores = np.random.default_rng(seed).integers(0, 40, 12) / 100 + np.arange(12) / 40
        theirs = keras.callbacks.EarlyStopping(
            "val_robust_accuracy", min_delta=min_delta, patience=patience, mode="max"
        )
        theirs.set_model(SimpleNamespace(stop_training=False))
        theirs.on_train_begin()
        for epoch, score in enumerate(scores):
            theirs.on_epoch_end(epoch, {"val_robust_accuracy": score})
            if theirs.model.stop_training:
                break
        assert stopped_after(scores, patience, min_delta) == epoch + 1


def test_validations_before_all_has_grown_do_not_count():
    falling = [0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
    assert stopped_after(falling, 2) == 3
    assert stopped_after(falling, 2, first_step=3) == 5


class AlwaysTheSecond:
    """A model whose classifier predicts class 1 for dark images and class 0 for bright ones."""

    @staticmethod
    def inference_model(images, training):
        bright = images[:, 0, 0, 0]
        return tf.stack([bright, 0.5 + 0 * bright, 0 * bright], axis=1)


def test_balanced_accuracy_and_a_class_that_is_never_right(caplog):
    # Class 0: 4 of 4 are right, class 1: 1 of 2, class 2: none.
    images = np.uint8([255, 255, 255, 255, 0, 255, 0]).reshape(7, 1, 1, 1)
    labels = np.int32([0, 0, 0, 0, 1, 1, 2])
    classes = ClassAccuracy(Images(images, labels), ["cat", "dog", "owl"], total_steps=10)
    classes.set_model(AlwaysTheSecond())
    for step in (4, 5, 10):
        logs = {"step": step}
        classes.on_epoch_end(0, logs)
        assert logs["val_balanced_accuracy"] == pytest.approx((1 + 0.5 + 0) / 3)
        assert logs["val_worst_class_accuracy"] == 0.0
        assert len(caplog.messages) == (step >= 5)
    (text,) = caplog.messages
    assert "1 of 3 classes are never right in validation: owl (n=1)" in text
    assert "data.balance" in text


def test_few_validation_images_select_by_the_mean_of_several_validations(tmp_path):
    layers = [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    model = RobustModel(keras.Sequential(layers), LInf(epsilon=0.1, num_steps=1), SRT())
    model.compile("sgd", run_eagerly=True)
    checkpoints = Checkpoints(tmp_path, model, averaged=2)
    checkpoints.set_model(model)
    for number, score in enumerate([0.2, 0.9, 0.3, 0.7, 0.6]):
        checkpoints.on_epoch_end(number, {"step": number + 1, "val_robust_accuracy": score})
    about = files.read_checksummed_json(tmp_path / "best.json")
    # The means are 0.2, 0.55, 0.6, 0.5, 0.65.
    assert (about["step"], about["val_robust_accuracy"]) == (5, pytest.approx(0.65))


@pytest.mark.parametrize(
    ("objective", "step", "score"),
    # What searches no neighborhood is most robust where it has learned least.
    [(Standard(), 2, {"val_accuracy": 0.8}), (SRT(), 1, {"val_robust_accuracy": 0.4})],
)
def test_the_best_is_chosen_by_what_the_objective_trains(objective, step, score, tmp_path):
    layers = [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    model = RobustModel(keras.Sequential(layers), LInf(epsilon=0.1, num_steps=1), objective)
    model.compile("sgd", run_eagerly=True)
    checkpoints = Checkpoints(tmp_path, model)
    checkpoints.set_model(model)
    intervals = [(0.2, 0.4), (0.8, 0.1), (0.7, 0.2)]
    for number, (clean, robust) in enumerate(intervals):
        logs = {"step": number + 1, "val_accuracy": clean, "val_robust_accuracy": robust}
        checkpoints.on_epoch_end(number, logs)
    about = files.read_checksummed_json(tmp_path / "best.json")
    assert about.pop("sha256") == files.sha256(tmp_path / "best.weights.h5")
    assert about == {"step": step, **score}


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="reads /proc")
def test_summaries_of_steps_take_no_memory(tmp_path):
    summaries = Summaries(str(tmp_path), write_graph=False)
    summaries.set_model(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]))
    summaries.on_train_begin()
    before = resident()
    for step in range(10_000):
        summaries.on_train_batch_begin(step)
        summaries.on_train_batch_end(step, {"loss": step / 7, "robust": step / 11})
    assert resident() - before < 1.0
