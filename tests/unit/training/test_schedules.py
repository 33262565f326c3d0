"""What grows in training: the search's rounds, the weight λ; single-step training by settings."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny
from pooled_application import pretrained_model

from keras_srt.config import loader as configs
from keras_srt.config.schema import ScheduleSettings, TrainingSettings
from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import keras
from keras_srt.data import DatasetInfo
from keras_srt.neighborhoods import LInf, Spatial
from keras_srt.objectives import (
    KLR,
    RST,
    RT,
    SRT,
    UAT,
    Adversarial,
    Standard,
    Target,
    Trades,
    WorstOfK,
    losses,
)
from keras_srt.pipeline.configs import COMPONENTS
from keras_srt.pipeline.cost import StepTime, training_seconds
from keras_srt.pipeline.describe import describe_cost
from keras_srt.pipeline.plan import make_plan
from keras_srt.pipeline.teacher_config import teacher_config
from keras_srt.training.batch_input import make_batch
from keras_srt.training.model import RobustModel
from keras_srt.training.schedules import SearchGrowth, learning_rate

INFO = DatasetInfo("made up", (16, 16, 1), tuple("0123456789"), 1000, 200)
PIXEL = LInf(epsilon=0.1, num_steps=4)
TURN = Spatial(max_rotation=20, max_translation=1, num_samples=5)


def configured(**changes):
    return configs.parse(tiny(**changes), COMPONENTS)


@keras.saving.register_keras_serializable("tests")
class Counter(keras.layers.Layer):
    """Counts the passes through a model."""

    def build(self, shape):
        self.passes = self.add_weight(
            name="passes", shape=(), initializer="zeros", dtype="int32", trainable=False
        )

    def call(self, inputs):
        self.passes.assign_add(1)
        return inputs


def make_dense():
    """A small classifier with a layer that counts, built."""
    keras.utils.set_random_seed(0)
    layers = [Counter(), keras.layers.Flatten(), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((8, 8, 2)), *layers])


@pytest.fixture
def batch(images, labels, unlabeled):
    return {
        "labeled": (images, labels),
        "unlabeled": unlabeled,
        "pseudo_labels": np.int32([0, 1, 2, 0, 1, 2]),
    }


@pytest.fixture
def batches(batch):
    return tf.data.Dataset.from_tensors(batch).repeat()


def trained(batches, neighborhood, objective, steps, first_step=0, **settings):
    """A model after some steps."""
    model = RobustModel(make_dense(), neighborhood, objective, **settings)
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    model.optimizer.build(model.classifier.trainable_variables)
    model.optimizer.iterations.assign(first_step)
    model.fit(batches, steps_per_epoch=steps, verbose=0)
    return model


@pytest.mark.parametrize(
    ("rounds", "steps", "expected"),
    [
        (4, 4, [(0, 1), (2, 2), (4, 4)]),
        (7, 700, [(0, 1), (200, 2), (400, 4), (700, 7)]),
        (10, 35, [(0, 1), (7, 2), (14, 4), (28, 8), (35, 10)]),
        (2, 9, [(0, 1), (9, 2)]),
    ],
)
def test_levels_are_powers_of_two(rounds, steps, expected):
    growth = SearchGrowth.over(steps, SRT(), LInf(epsilon=0.1, num_steps=rounds))
    assert [(level.first_step, level.neighborhood.num_steps) for level in growth.levels] == expected
    assert all(first * rounds >= cut * steps for first, cut in expected[1:])


@pytest.mark.parametrize(
    ("neighborhood", "objective"),
    [
        (LInf(epsilon=0.1, num_steps=1), SRT()),
        (Spatial(search="grid"), SRT()),
        (Spatial(), WorstOfK(num_samples=1)),
        (PIXEL, Standard()),
        (None, Standard()),
    ],
)
def test_what_cannot_grow_is_refused(neighborhood, objective):
    with pytest.raises(InvalidSettings, match=r"^training\.search_growth: got .*one step"):
        SearchGrowth.over(10, objective, neighborhood)
    assert len(SearchGrowth.over(0, objective, neighborhood).levels) == 1


def test_the_passes_of_each_step_are_counted(batches):
    """SRT: C(x), the ascent, one training pass; 1, 2 and from step 4 on all 4 ascent steps."""
    counts, before = [], 0
    model = RobustModel(make_dense(), PIXEL, SRT(), search_growth=4)
    traces = []
    step = model.train_step
    model.train_step = lambda data: traces.append(1) or step(data)
    model.compile(keras.optimizers.SGD(0.1))
    model.optimizer.build(model.classifier.trainable_variables)
    for _ in range(6):
        model.fit(batches, steps_per_epoch=1, verbose=0)
        now = int(model.classifier.layers[0].passes)
        counts.append(now - before)
        before = now
    assert counts == [1 + 1 + 1] * 2 + [1 + 2 + 1] * 2 + [1 + 4 + 1] * 2
    assert len(traces) == 1


@pytest.mark.parametrize(("first_step", "rounds"), [(2, 2), (4, 4)], ids=["two", "full"])
def test_a_level_trains_as_the_neighborhood_that_it_names(first_step, rounds, batches):
    grown = trained(batches, PIXEL, SRT(), 1, first_step, search_growth=4)
    plain = trained(batches, PIXEL.with_max_steps(rounds), SRT(), 1, first_step)
    for one, other in zip(
        grown.classifier.get_weights()[1:], plain.classifier.get_weights()[1:], strict=True
    ):
        np.testing.assert_array_equal(one, other)


OBJECTIVES = [RT(), Adversarial(), Trades(), UAT(), RST(), WorstOfK(), KLR()]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: o.name)
def test_every_objective_that_searches_can_grow(objective, batch):
    """Its full level is the objective's own `prepare`, the first one is cheaper."""
    growth = SearchGrowth.over(10, objective, TURN)
    classifier = make_dense()
    counter = classifier.layers[0].passes
    inputs = make_batch(tf.nest.map_structure(tf.constant, batch), objective, 3)

    passes, found = [], []
    for step in (0, 10):
        counter.assign(0)
        step = tf.constant(step, tf.int64)
        prepared = growth.prepare(classifier, inputs, tf.constant([1, 2]), 1.0, step)
        found.append(tf.nest.flatten(prepared))
        passes.append(int(counter))
    own = objective.prepare(classifier, inputs, TURN, tf.constant([1, 2]), 1.0)
    assert passes[0] < passes[1]
    for one, other in zip(found[1], tf.nest.flatten(own), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_plan_counts_the_mean_effort():
    changes = {"training__steps": 8, "neighborhood__num_steps": 4}
    plan = make_plan(configured(**changes, training__search_growth=0.5), INFO)
    # 16 images forward, 2 for each ascent step and image, 3 for each of 8 + 16 trained.
    costs = [16 + 2 * 16 * k + 3 * 24 for k in (1, 1, 2, 2, 4, 4, 4, 4)]
    assert plan.growth_steps == 4
    assert plan.cost_ratio == pytest.approx(np.mean(costs) / costs[-1])
    assert plan.passes == make_plan(configured(**changes), INFO).passes
    step = StepTime(10.0, 16)
    assert training_seconds(plan, step) == pytest.approx(80.0 * plan.cost_ratio)
    assert "with the full search, 81% of that on average" in describe_cost(plan, step)


def test_without_growth_the_estimate_is_as_it_was():
    plan = make_plan(configured(), INFO)
    assert (plan.cost_ratio, plan.growth_steps, plan.weight_steps) == (1.0, 0, 0)
    assert "on average" not in describe_cost(plan, StepTime(1.0, 16))


def test_frozen_steps_cost_no_gradient_of_the_weights(tmp_path, monkeypatch):
    model = pretrained_model(tmp_path, monkeypatch)
    changes = {"training__steps": 8, "neighborhood__num_steps": 4, "model": model}
    plan = make_plan(configured(**changes, training__freeze=0.25), INFO)
    frozen, full = (16 + 2 * 16 * 4 + cost * 24 for cost in (1, 3))
    assert plan.freeze_steps == 2
    assert plan.cost_ratio == pytest.approx((2 * frozen + 6 * full) / (8 * full))
    text = describe_cost(plan, StepTime(10.0, 16))
    assert "freeze    the first 2 steps train only the last layer" in text
    assert "of all layers, 94% of that on average" in text
    grown = make_plan(
        configured(**changes, training__freeze=0.25, training__search_growth=0.5), INFO
    )
    costs = [16 + 2 * 16 * k + 3 * 24 for k in (1, 1, 2, 2, 4, 4, 4, 4)]
    assert grown.cost_ratio == pytest.approx((np.sum(costs) - 2 * 2 * 24) / (8 * full))


def test_a_model_without_pretrained_weights_is_not_frozen():
    with pytest.raises(InvalidSettings, match=r"^training.freeze: got 0.5 .*'small_cnn' without"):
        make_plan(configured(training__freeze=0.5), INFO)


def test_a_pretrained_teacher_is_frozen_like_its_student(tmp_path, monkeypatch):
    model = pretrained_model(tmp_path, monkeypatch)
    settings = {"objective": {"name": "rst"}, "training__freeze": 0.5, "model": model}
    other = {"teacher": {"model": {"weights": None}}}
    for changes, share in ((settings, 0.5), (settings | other, 0.0)):
        config = configured(**changes)
        assert teacher_config(config, 6).training.freeze == share


def test_a_plan_with_nothing_to_grow_is_refused():
    with pytest.raises(InvalidSettings, match=r"training\.search_growth"):
        make_plan(configured(neighborhood__num_steps=1, training__search_growth=0.5), INFO)
    objective = {"objective": {"name": "adversarial"}, "training__labeled_per_batch": None}
    config = configured(**objective, training__weight_warmup=0.5)
    with pytest.raises(InvalidSettings, match=r"training\.weight_warmup"):
        make_plan(config, INFO)


def test_a_teacher_grows_nothing():
    growing = {"training__search_growth": 0.5, "training__weight_warmup": 0.5}
    config = configured(objective={"name": "rst"}, **growing)
    teacher = teacher_config(config, make_plan(config, INFO).steps)
    plan = make_plan(teacher, INFO)
    assert (plan.growth_steps, plan.weight_steps, plan.cost_ratio) == (0, 0, 1.0)


# The weight λ.


@pytest.mark.parametrize("objective", [SRT(robust_weight=3.0), Trades(robust_weight=3.0)])
def test_the_weight_grows_linearly(objective, batches):
    model = RobustModel(make_dense(), PIXEL, objective, weight_warmup=4)
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    model.optimizer.build(model.classifier.trainable_variables)
    for share in (0.25, 0.5, 0.75, 1.0, 1.0):
        logs = model.fit(batches, steps_per_epoch=1, verbose=0).history
        (loss,), (labeled,), (robust,) = logs["loss"], logs["labeled"], logs["robust"]
        assert loss == pytest.approx(labeled + 3.0 * share * robust, rel=1e-5)


def test_the_weight_scales_the_gradient(batches):
    """At step 0 of 2 half of λ: the step is that of half the λ."""
    grown = trained(batches, PIXEL, SRT(robust_weight=2.0), 1, weight_warmup=2)
    plain = trained(batches, PIXEL, SRT(robust_weight=1.0), 1)
    full = trained(batches, PIXEL, SRT(robust_weight=2.0), 1)
    kernels = [model.classifier.layers[-1].kernel.numpy() for model in (grown, plain, full)]
    np.testing.assert_allclose(kernels[0], kernels[1], atol=1e-7)
    assert np.abs(kernels[0] - kernels[2]).max() > 1e-4


@pytest.mark.parametrize("objective", [Adversarial(), UAT(), WorstOfK(), Standard()])
def test_a_weight_that_is_not_there_cannot_grow(objective):
    with pytest.raises(InvalidSettings, match=f"^training.weight_warmup: .*{objective.name!r}"):
        RobustModel(make_dense(), TURN, objective, weight_warmup=3)


@pytest.mark.parametrize("objective", [SRT(), RT(), Trades(), RST(), KLR()], ids=lambda o: o.name)
def test_the_weights_that_grow_are_those_of_robust_terms(objective):
    assert objective.warmed_terms == ("robust",)
    assert set(objective.warmed_terms) <= set(objective.term_names)


# "Fast" adversarial training is a matter of settings.


def test_fast_adversarial_training_in_a_config(images, labels):
    """Wong et al. 2020, algorithm 3: x' = clip(x + δ + 1.25·ε·sign ∇), δ uniform in the ball."""
    config = configured(
        objective={"name": "adversarial"},
        training__labeled_per_batch=None,
        neighborhood={"name": "linf", "epsilon": 0.08, "num_steps": 1, "step_size": 0.1},
    )
    ball, seed = config.neighborhood, tf.constant([3, 4])
    assert ball.solver.step_size == pytest.approx(1.25 * ball.epsilon)
    classifier = make_dense()
    start = ball.solver.start(images, seed, 1.0)
    with tf.GradientTape() as tape:
        tape.watch(start)
        loss = losses.cross_entropy(Target(labels), classifier(start))
    moved = start + 0.1 * np.sign(tape.gradient(loss, start))
    expected = np.clip(np.clip(moved, images - 0.08, images + 0.08), 0, 1)
    inputs = make_batch((images, labels), config.objective, 3)
    prepared = config.objective.prepare(classifier, inputs, ball, seed, 1.0)
    np.testing.assert_allclose(prepared.images, expected, atol=1e-6)
    assert np.abs(start - images).max() > 0.07


def test_the_linear_schedule_rises_holds_and_falls():
    schedule = ScheduleSettings(name="linear", warmup=0.1, hold=0.4)
    training = TrainingSettings(steps=100, learning_rate=0.2, schedule=schedule)
    rate = learning_rate(training, steps=100, steps_per_epoch=10)
    found = [float(rate(step)) for step in (0, 5, 10, 49, 50, 75, 99, 100)]
    np.testing.assert_allclose(found, [0, 0.1, 0.2, 0.2, 0.2, 0.1, 0.004, 0], atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "cosine", "hold": 0.1},
        {"name": "linear", "hold": 1.0},
        {"name": "linear", "hold": 0.6, "warmup": 0.4},
    ],
)
def test_a_hold_that_leaves_no_decay_is_refused(settings):
    with pytest.raises(InvalidSettings, match=r'^hold: got .*allowed: 0, or with "linear"'):
        ScheduleSettings(**settings)
