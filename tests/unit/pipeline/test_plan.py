"""The plan of a run: steps, segments, learning rates, the timed step."""

import json

import numpy as np
import pytest
import tensorflow as tf
from helpers import ROOT, tiny

from keras_srt.config import loader as configs
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.formatting import format_duration
from keras_srt.data import DatasetInfo
from keras_srt.pipeline import cost
from keras_srt.pipeline.classifiers import build_model
from keras_srt.pipeline.configs import COMPONENTS
from keras_srt.pipeline.cost import StepTime, time_step
from keras_srt.pipeline.describe import describe_cost
from keras_srt.pipeline.plan import make_plan, segments
from keras_srt.training.schedules import learning_rate

INFO = DatasetInfo("made up", (16, 16, 1), tuple("0123456789"), 1000, 200)


def configured(**changes):
    return configs.parse(tiny(**changes), COMPONENTS)


def planned(**changes):
    return make_plan(configured(**changes), INFO)


def rate_of(config, plan):
    return learning_rate(config.training, plan.steps, plan.steps_per_epoch)


# Segments.


@pytest.mark.parametrize("steps", [1, 2, 7, 12])
@pytest.mark.parametrize("interval", [1, 2, 3, 5, 12])
def test_segments_cover_every_step_once_and_validate_where_they_should(steps, interval):
    interval = min(steps, interval)
    plan = planned()._replace(steps=steps, interval=interval)
    due = sorted({*range(interval, steps + 1, interval), steps})
    for first in range(steps):
        done, validated, epochs = [], [], []
        made = segments(plan, first)
        for segment in made:
            assert segment.first_step == first + len(done)
            assert segment.epochs > segment.initial_epoch
            for epoch in range(segment.initial_epoch, segment.epochs):
                done += range(first + len(done), first + len(done) + segment.steps_per_epoch)
                validated.append(done[-1] + 1)
                epochs.append(epoch)
        assert done == list(range(first, steps))
        assert validated == [step for step in due if step > first]
        # An interval keeps its number, whatever was done before.
        assert epochs == [(step - 1) // interval for step in validated]
        assert len(made) <= 3
    assert segments(plan, steps) == []


# Steps, epochs, intervals.


def test_an_epoch_is_one_pass_over_the_labeled_images():
    plan = planned(training__steps=None, training__epochs=3)
    assert (plan.sizes.labeled, plan.sizes.unlabeled) == (8, 8)
    assert plan.steps_per_epoch == 5  # 40 labeled images, 8 in a batch
    assert plan.steps == 15
    odd = planned(training__steps=None, training__epochs=3, data__labeled=41)
    assert (odd.steps_per_epoch, odd.steps) == (6, 18)
    assert planned(training__steps=15) == plan


def test_objectives_without_unlabeled_images_fill_the_batch_with_labeled_ones():
    plan = planned(objective={"name": "rt"}, training__labeled_per_batch=None)
    assert (plan.sizes.labeled, plan.sizes.unlabeled) == (16, 0)
    assert plan.num_unlabeled == 0
    srt = planned()
    assert (srt.num_labeled, srt.num_unlabeled) == (40, 1000 - 40 - 30)
    assert planned(data__unlabeled=100).num_unlabeled == 100


@pytest.mark.parametrize(
    ("changes", "interval"),
    [
        ({"training__steps": 400}, 20),  # a twentieth, as 5 steps are no sensible interval
        ({"training__steps": 401}, 21),
        ({"training__steps": 7}, 1),
        ({"training__steps": 500, "data__labeled": 800}, 100),  # an epoch
        ({"training__steps": 50, "data__labeled": 800}, 50),  # never more than there are
        ({"training__steps": 50, "training__interval": 20}, 20),
        ({"training__steps": 50, "training__interval": 80}, 50),
    ],
)
def test_the_interval_between_validations(changes, interval):
    assert planned(**{"training__interval": None, **changes}).interval == interval


def test_the_strength_grows_over_a_share_of_the_training():
    assert planned(training__strength_warmup=0.5).strength_steps == 3
    assert planned().strength_steps == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training__labeled_per_batch": None, "data__labeled": 10}, "training.batch_size"),
        ({"data__labeled": 9}, "data.labeled"),
        ({"data__labeled": 990}, "at most the 1000"),
        ({"data__unlabeled": 931}, "at most the 1000"),
        (
            {"data__validation": 0, "training__early_stopping": {"patience": 1}},
            "data.validation: got 0 with training.early_stopping; allowed: null or at least 1",
        ),
        (
            {"data__validation": 0, "objective": {"name": "uat"}},
            "data.validation: got 0 with a teacher",
        ),
    ],
)
def test_what_cannot_work_is_refused(changes, words):
    with pytest.raises(InvalidSettings, match=words):
        planned(**changes)


def test_the_passes_of_a_step():
    # SRT: every image of the batch forward for C(x), two ascent steps each, then both terms.
    assert planned().passes == (16, 32, 8 + 16)
    standard = planned(objective={"name": "standard"}, training__labeled_per_batch=None)
    assert standard.passes == (0, 0, 16)


_SIZES = {"digits": (28, 1, 1297), "mnist": (28, 1, 60000), "cifar10": (32, 3, 50000)}


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.json")), ids=lambda p: p.stem)
def test_every_config_of_the_repository_has_a_plan(path):
    for variant in (None, *json.loads(path.read_text())["variants"]):
        config = configs.load(path, COMPONENTS, variant)
        size, channels, count = _SIZES[config.data.dataset.name]
        info = DatasetInfo("", (size, size, channels), tuple("0123456789"), count, 1000)
        plan = make_plan(config, info)
        assert 1 <= plan.interval <= plan.steps
        assert sum(plan.sizes) == config.training.batch_size
        boundaries = getattr(rate_of(config, plan), "boundaries", [])
        assert all(0 <= boundary < plan.steps for boundary in boundaries)


# Learning rates.


def rates(steps_at, **changes):
    config = configured(training__learning_rate=1.0, **changes)
    rate = rate_of(config, make_plan(config, INFO))
    return [float(rate(step)) if callable(rate) else rate for step in steps_at]


def test_a_constant_rate():
    assert rates([0, 5]) == [1.0, 1.0]


def test_a_step_rate_falls_with_the_step_of_its_milestone():
    schedule = {"name": "step", "milestones": [2, 4], "factor": 0.1}
    found = rates(range(6), training__schedule=schedule)
    np.testing.assert_allclose(found, [1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-6)


def test_milestones_are_in_the_unit_of_the_length():
    schedule = {"name": "step", "milestones": [1, 2], "factor": 0.5}
    length = {"training__steps": None, "training__epochs": 3}
    found = rates([0, 4, 5, 9, 10, 14], training__schedule=schedule, **length)
    np.testing.assert_allclose(found, [1, 1, 0.5, 0.5, 0.25, 0.25])


def test_a_cosine_rate_warms_up_and_falls_to_zero():
    schedule = {"name": "cosine", "warmup": 0.1}
    found = rates(
        [0, 5, 10, 55, 100], training__steps=100, training__interval=None,
        training__schedule=schedule,
    )  # fmt: skip
    np.testing.assert_allclose(found, [0, 0.5, 1, 0.5, 0], atol=1e-6)
    found = rates(
        [0, 50, 100], training__steps=100, training__interval=None,
        training__schedule={"name": "cosine", "warmup": 0},
    )  # fmt: skip
    np.testing.assert_allclose(found, [1, 0.5, 0], atol=1e-6)


# The timed step.


@pytest.mark.parametrize("objective", ["srt", "standard"])
def test_timing_a_step_leaves_no_trace(objective, monkeypatch):
    config = configured(
        objective={"name": objective},
        training__labeled_per_batch=8 if objective == "srt" else None,
        training__schedule={"name": "cosine"},
    )
    plan = make_plan(config, INFO)
    model = build_model(config, INFO, plan)
    for variable in model.optimizer.variables[2:]:
        variable.assign(tf.ones_like(variable))  # as if training were under way
    state = [*model.classifier.weights, *model.optimizer.variables]
    before = [variable.numpy() for variable in state]
    trained = []
    inner = type(model).train_step
    monkeypatch.setattr(
        type(model), "train_step", lambda self, data: trained.append(1) or inner(self, data)
    )
    step = time_step(model, plan, INFO)
    assert trained
    assert step.seconds > 0
    assert step.timed_on == 16
    for variable, value in zip(state, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert model.optimizer.iterations.numpy() == 0
    assert all(metric.count.numpy() == 0 for metric in model.metrics)


def test_a_step_that_takes_long_is_timed_on_fewer_images(monkeypatch):
    config = configured(training__batch_size=64, training__labeled_per_batch=16)
    plan = make_plan(config, INFO)
    monkeypatch.setattr(cost, "_timed_share", lambda *_: 0.125)
    step = time_step(build_model(config, INFO, plan), plan, INFO)
    assert step.timed_on == 8
    assert "timed on 8 images" in describe_cost(plan, step)
    assert "timed on" not in describe_cost(plan, step._replace(timed_on=64))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.01, "1 s"),
        (45.4, "45 s"),
        (89, "89 s"),
        (90, "2 min"),
        (720, "12 min"),
        (3600, "1.0 h"),
        (12240, "3.4 h"),
        (86400, "1.0 days"),
        (691200, "8.0 days"),
    ],
)
def test_durations_in_the_unit_that_a_person_would_use(seconds, words):
    assert format_duration(seconds) == words


def test_passes_over_the_labeled_images():
    # 40 labels, 8 in a batch: 6 steps show 48 of them.
    plan = planned()
    assert plan.labeled_passes == pytest.approx(8 / 40)
    assert "6 steps = 1.2 passes over the labeled images" in describe_cost(plan, StepTime(1.0, 16))
