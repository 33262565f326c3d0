"""From gradients to weights: clipping, decay, loss scale, averages, optimizers, learning rates."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny

from keras_srt.config import loader as configs
from keras_srt.core.errors import InvalidSettings, UserError
from keras_srt.core.tensorflow import keras
from keras_srt.data import DatasetInfo
from keras_srt.neighborhoods import L0, L2, Color, LInf
from keras_srt.objectives import SRT, Standard
from keras_srt.pipeline.classifiers import build_model
from keras_srt.pipeline.configs import COMPONENTS, load_config
from keras_srt.pipeline.plan import make_plan
from keras_srt.pipeline.run_folder import RunFolder
from keras_srt.training.checkpoints import Checkpoints
from keras_srt.training.model import RobustModel
from keras_srt.training.optimization import LossScale, Update, Warmup, WeightAverage, make_optimizer
from keras_srt.training.schedules import learning_rate

INFO = DatasetInfo("made up", (16, 16, 1), tuple("0123456789"), 1000, 200)
PIXEL = LInf(epsilon=0.1, num_steps=2)
IN_FLOAT16 = "mixed_float16"


def make_dense(policy=None, units=16):
    """A small classifier of 8×8 images with no convolution, hidden layer in some precision."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((8, 8, 2)),
        keras.layers.Flatten(),
        keras.layers.Dense(units, activation="tanh", dtype=policy),
        keras.layers.Dense(3, dtype="float32"),
    ]
    return keras.Sequential(layers)


def make_linear(weights):
    """A classifier of 1×1 images whose only weights are these."""
    layer = keras.layers.Dense(len(weights[0]), use_bias=False)
    classifier = keras.Sequential(
        [keras.Input((1, 1, len(weights))), keras.layers.Flatten(), layer]
    )
    layer.set_weights([np.float32(weights)])
    return classifier


def apply(gradients, update=None, start=((0.0, 0.0),), optimizer=None, weight_decay=0.0):
    """The weights after a step for each of these gradients."""
    classifier = make_linear(start)
    optimizer = optimizer or keras.optimizers.SGD(1.0)
    optimizer.build(classifier.trainable_variables)
    update = update or Update()
    for gradient in gradients:
        update.apply(optimizer, classifier, [tf.constant([gradient])], weight_decay)
    return classifier.get_weights()[0][0]


def configured(**changes):
    return configs.parse(tiny(**changes), COMPONENTS)


@pytest.fixture
def batches(images, labels, unlabeled):
    """Endless batches of the same images."""
    data = {"labeled": (images, labels), "unlabeled": unlabeled}
    return tf.data.Dataset.from_tensors(data).repeat()


# Clipping and decay.


@pytest.mark.parametrize(
    ("gradient", "clip", "expected"),
    [
        ([3.0, 4.0], 1.0, [-0.6, -0.8]),
        ([3.0, 4.0], 10.0, [-3.0, -4.0]),
        ([3.0, 4.0], 5.0, [-3.0, -4.0]),
        ([3.0, 4.0], None, [-3.0, -4.0]),
        ([0.0, 0.0], 1.0, [0.0, 0.0]),
    ],
)
def test_a_gradient_is_shortened_to_the_bound(gradient, clip, expected):
    np.testing.assert_allclose(apply([gradient], Update(gradient_clip=clip)), expected, rtol=1e-6)


def test_the_norm_is_that_of_all_weights_together():
    classifier = make_dense()
    generator = np.random.default_rng(0)
    before = classifier.get_weights()
    gradients = [np.float32(generator.normal(size=w.shape)) for w in before]
    norm = np.sqrt(sum(np.sum(np.float64(g) ** 2) for g in gradients))
    tensors = [tf.constant(g) for g in gradients]
    Update(gradient_clip=0.5).apply(keras.optimizers.SGD(1.0), classifier, tensors)
    for w, now, g in zip(before, classifier.get_weights(), gradients, strict=True):
        np.testing.assert_allclose(now, w - g * 0.5 / norm, atol=1e-6)


def test_weight_decay_is_added_to_what_was_clipped():
    found = apply([[3.0, 4.0]], Update(gradient_clip=1.0), start=[[10.0, 20.0]], weight_decay=0.1)
    np.testing.assert_allclose(found, [10 - 0.6 - 1.0, 20 - 0.8 - 2.0], rtol=1e-6)


# Optimizers.


def adamw(weights, gradients, rate, decay, beta=0.9):
    """Loshchilov & Hutter 2019, algorithm 2, in float64."""
    w, m, v = np.float64(weights), 0.0, 0.0
    for t, gradient in enumerate(np.float64(gradients), 1):
        m, v = beta * m + (1 - beta) * gradient, 0.999 * v + 0.001 * gradient**2
        step = (m / (1 - beta**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-7)
        w = w - rate * (step + decay * w)
    return w


@pytest.mark.parametrize("beta", [0.9, 0.5])
def test_adamw_is_its_formula(beta):
    gradients = [[0.5, -2.0], [0.1, 3.0], [-0.4, 0.2]]
    optimizer = make_optimizer("adamw", 0.1, momentum=beta, weight_decay=0.3)
    found = apply(gradients, start=[[1.0, -2.0]], optimizer=optimizer)
    np.testing.assert_allclose(found, adamw([1, -2], gradients, 0.1, 0.3, beta), rtol=1e-4)


def test_sgd_with_momentum_is_its_formula():
    optimizer = make_optimizer("sgd", 0.1, momentum=0.9, weight_decay=0.3)  # left to `Update`
    found = apply([[1.0, 2.0], [3.0, -1.0]], start=[[1.0, 1.0]], optimizer=optimizer)
    np.testing.assert_allclose(found, [1 - 0.1 - 0.39, 1 - 0.2 - 0.08], rtol=1e-6)


@pytest.mark.parametrize(("name", "coupled"), [("sgd", 0.02), ("adamw", 0.0)])
def test_weights_decay_once(name, coupled):
    """Coupled with SGD's gradient, or by AdamW itself; never both."""
    config = configured(training__optimizer=name, training__weight_decay=0.02)
    model = build_model(config, INFO, make_plan(config, INFO))
    assert model.weight_decay == coupled
    weights = model.classifier.trainable_variables
    before = [w.numpy() for w in weights]
    model.update.apply(
        model.optimizer, model.classifier, [tf.zeros_like(w) for w in weights], model.weight_decay
    )
    for old, new in zip(before, weights, strict=True):  # the rate is 0.05
        np.testing.assert_allclose(new, old * (1 - 0.05 * 0.02), rtol=1e-5, atol=1e-8)


# Learning rates.


def rates(steps_at, **changes):
    config = configured(training__learning_rate=1.0, training__interval=None, **changes)
    plan = make_plan(config, INFO)
    rate = learning_rate(config.training, plan.steps, plan.steps_per_epoch)
    return [float(rate(step)) if callable(rate) else rate for step in steps_at]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"name": "constant", "warmup": 0.2}, [0, 0.25, 0.5, 1, 1, 1, 1]),
        ({"name": "constant"}, [1, 1, 1, 1, 1, 1, 1]),
        ({"name": "step", "milestones": [10], "warmup": 0.2}, [0, 0.25, 0.5, 1, 0.1, 0.1, 0.1]),
        ({"name": "step", "milestones": [2], "warmup": 0.2}, [0, 0.25, 0.05, 0.1, 0.1, 0.1, 0.1]),
        ({"name": "step", "milestones": [10]}, [1, 1, 1, 1, 0.1, 0.1, 0.1]),
        ({"name": "cosine", "warmup": 0.2}, [0, 0.25, 0.5, 1, 0.691342, 0.5975, 0.0]),
    ],
)
def test_rates_rise_from_zero_before_they_follow_their_schedule(schedule, expected):
    found = rates([0, 1, 2, 4, 10, 11, 20], training__steps=20, training__schedule=schedule)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_default_warmup_is_said_in_the_resolved_config():
    warmup = {
        name: configured(training__schedule={"name": name, **more}).training.schedule.warmup
        for name, more in (("constant", {}), ("step", {"milestones": [2]}), ("cosine", {}))
    }
    assert warmup == {"constant": 0.0, "step": 0.0, "cosine": 0.05}


def test_a_warmup_is_made_again_from_its_config():
    again = Warmup.from_config(Warmup(0.5, 10).get_config())
    assert [float(again(step)) for step in (0, 5, 10, 20)] == [0.0, 0.25, 0.5, 0.5]


# Loss scale.


def test_the_loss_scale_halves_and_doubles():
    scale, seen = LossScale(initial=8.0, double_after=2), []
    for finite in (True, True, True, False, False, True, True, False, False, False, False, True):
        scale.adjust(tf.constant(finite))
        seen.append((float(scale.value), int(scale.good_steps)))
    assert seen == [
        (8, 1), (16, 0), (16, 1), (8, 0), (4, 0), (4, 1), (8, 0), (4, 0), (2, 0), (1, 0), (1, 0),
        (1, 1),
    ]  # fmt: skip


def test_the_first_scale_and_the_patience_are_those_of_the_field():
    scale = LossScale()
    scale.good_steps.assign(1998)
    for expected in (32768.0, 65536.0):
        scale.adjust(tf.constant(True))
        assert float(scale.value) == expected


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_gradient_that_is_not_finite_changes_nothing_but_scale_and_step(bad):
    optimizer, scale = keras.optimizers.SGD(1.0, momentum=0.5), LossScale(initial=4.0)
    update = Update(loss_scale=scale)
    found = apply([[4.0, 8.0], [bad, 1.0], [0.0, 0.0]], update, optimizer=optimizer)
    # Divided by 4; the second step is skipped; the third continues with the momentum.
    np.testing.assert_allclose(found, [-1.0 - 0.5 * 1.0, -2.0 - 0.5 * 2.0])
    assert int(optimizer.iterations) == 3
    assert float(scale.value) == 2.0


def test_gradients_are_clipped_after_they_are_divided():
    update = Update(gradient_clip=1.0, loss_scale=LossScale(initial=10.0))
    np.testing.assert_allclose(apply([[3.0, 4.0]], update), [-0.3, -0.4], rtol=1e-6)


def test_searches_see_larger_gradients_of_the_same_direction():
    classifier, scale = make_dense(), LossScale(initial=64.0)
    images = tf.constant(np.random.default_rng(0).random((4, 8, 8, 2), np.float32))
    gradients = []
    for seen in (classifier, scale.scale_input_gradients(classifier)):
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = seen(images, training=False)
            first = logits[:, 0]
        gradients.append(tape.gradient(first, images))
        np.testing.assert_array_equal(logits, classifier(images))
    np.testing.assert_allclose(gradients[1], 64.0 / 4 * gradients[0], rtol=1e-5)


def test_what_overflows_in_a_search_counts_as_zero():
    scale = LossScale(initial=1.0)
    slopes = tf.constant([[1.0, np.inf], [np.nan, 2.0]])
    images = tf.zeros([2, 1, 1, 2])

    def classifier(images, training):
        # In float32 a product would be NaN: the slope alone is not finite.
        @tf.custom_gradient
        def steep(x):
            return tf.reshape(x, [2, 2]), lambda up: tf.reshape(up * slopes, x.shape)

        return steep(images)

    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = scale.scale_input_gradients(classifier)(images)
    found = tape.gradient(logits, images)
    np.testing.assert_array_equal(tf.reshape(found, [2, 2]), [[0.5, 0.0], [0.0, 1.0]])


def test_small_gradients_reach_a_search_in_float16():
    """A gradient of 1e-8 is 0 in float16, so that the ascent would stand still."""
    classifier = make_dense(IN_FLOAT16)
    images = tf.constant(np.random.default_rng(0).random((4, 8, 8, 2), np.float32))
    flat = LInf(epsilon=0.1, num_steps=1, random_start=False)
    moved = {}
    for name, seen in (
        ("plain", classifier),
        ("scaled", LossScale().scale_input_gradients(classifier)),
    ):
        found = flat.maximize(images, lambda x, f=seen: 1e-8 * f(x, training=False)[:, 0], (0, 0))
        moved[name] = float(tf.reduce_mean(tf.abs(found.images - images)))
    assert moved["plain"] == 0.0
    assert moved["scaled"] > 0.05


@pytest.mark.parametrize(
    "neighborhood",
    [PIXEL, L2(epsilon=1.0, num_steps=2), L0(epsilon=4, num_steps=2), Color(max_brightness=0.2)],
    ids=lambda n: n.name,
)
def test_searches_depend_on_the_direction_alone(neighborhood):
    classifier = make_dense()
    images = tf.constant(np.random.default_rng(0).random((4, 8, 8, 2), np.float32))
    plain, scaled = (
        neighborhood.maximize(images, lambda x, f=f: f(x, training=False)[:, 0], (3, 4)).images
        for f in (classifier, LossScale(initial=4.0 * 2**10).scale_input_gradients(classifier))
    )
    np.testing.assert_allclose(plain, scaled, atol=1e-6)


def test_training_in_float16_is_close_to_float32(batches):
    losses = {}
    for policy in (None, IN_FLOAT16):
        model = RobustModel(make_dense(policy), PIXEL, SRT(), loss_scale=policy is not None)
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), run_eagerly=True)
        losses[policy] = model.fit(batches, steps_per_epoch=5, epochs=2, verbose=0).history["loss"]
        assert all(w.dtype == tf.float32 for w in model.classifier.weights)
    assert losses[None][1] < losses[None][0]
    np.testing.assert_allclose(losses[IN_FLOAT16], losses[None], rtol=0.02)


def test_keras_adds_no_loss_scale_of_its_own():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = RobustModel(make_dense(), PIXEL, SRT(), loss_scale=True)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    model.compile(keras.optimizers.SGD(0.1))
    assert type(model.optimizer) is keras.optimizers.SGD
    wrapped = keras.mixed_precision.LossScaleOptimizer(keras.optimizers.SGD(0.1))
    with pytest.raises(InvalidSettings, match="got a LossScaleOptimizer"):
        model.compile(wrapped)


def test_float16_without_a_gpu_is_warned_of_in_one_line(caplog, monkeypatch):
    config = configured(training__precision="mixed_float16")
    plan = make_plan(config, INFO)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda *_: [])
    model = build_model(config, INFO, plan)
    (line,) = caplog.messages
    assert line.startswith("training.precision mixed_float16")
    caplog.clear()
    assert set(model.update.checkpointed) == {"loss_scale", "good_steps"}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["GPU"] * bool(kind))
    build_model(config, INFO, plan)
    assert not caplog.messages


# Averages.


def test_the_average_is_its_recursion(batches, make_classifier):
    """Of the weights and of the statistics of BatchNorm, against NumPy."""
    classifier = make_classifier()
    model = RobustModel(classifier, PIXEL, SRT(), ema=0.2)
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    model.optimizer.build(classifier.trainable_variables)
    expected = classifier.get_weights()
    for step in range(4):
        model.fit(batches, steps_per_epoch=1, verbose=0)
        decay = min(0.2, (1 + step) / (10 + step))  # 0.1, 0.18…, 0.2, 0.2
        weights = zip(expected, classifier.get_weights(), strict=True)
        expected = [decay * a + (1 - decay) * w for a, w in weights]
        for found, wanted in zip(model.average.get_weights(), expected, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert any(
        np.abs(a - w).max() > 1e-3 for a, w in zip(expected, classifier.get_weights(), strict=True)
    )


def test_the_average_follows_and_does_not_lead():
    found = []
    for averaged in (False, True):
        classifier, optimizer = make_dense(), keras.optimizers.SGD(0.1)
        update = Update(average=WeightAverage(classifier, 0.9) if averaged else None)
        for _ in range(3):
            gradients = [tf.tanh(w) for w in classifier.trainable_variables]
            update.apply(optimizer, classifier, gradients)
        found.append(classifier.get_weights())
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_average_is_validated_and_saved_as_the_best(tmp_path, images, labels):
    classifier = make_dense()
    model = RobustModel(classifier, PIXEL, Standard(), ema=0.9)
    model.compile("sgd", run_eagerly=True)
    answers = np.argmax(classifier(images), axis=1)
    last = classifier.layers[-1]
    last.kernel.assign(-last.kernel)  # what is trained now answers otherwise
    assert np.any(np.argmax(classifier(images), axis=1) != answers)
    results = model.evaluate(images, answers, verbose=0, return_dict=True)
    assert results["accuracy"] == 1.0
    checkpoints = Checkpoints(tmp_path, model)
    checkpoints.set_model(model)
    checkpoints.on_epoch_end(0, {"val_robust_accuracy": 0.5})
    saved = make_dense()
    saved.load_weights(tmp_path / "best.weights.h5")
    for one, other in zip(saved.get_weights(), model.average.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(model.predict(images, verbose=0), saved(images), atol=1e-5)


def test_an_average_from_a_config_has_the_weights_of_the_model():
    config = configured(training__ema=0.999)
    model = build_model(config, INFO, make_plan(config, INFO))
    assert model.inference_model is model.average
    for one, other in zip(
        model.inference_model.get_weights(), model.classifier.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


# Checkpoints.


def make_model(folder):
    """A model with everything on, and its checkpoints."""
    classifier = make_dense(IN_FLOAT16)
    model = RobustModel(
        classifier, PIXEL, SRT(), gradient_clip=0.5, ema=0.7, search_growth=4, weight_warmup=4
    )
    # The scale doubles after three good steps: in the middle of what is tested.
    model.update.loss_scale = LossScale(initial=256.0, double_after=3)
    rate = Warmup(0.05, 3)
    model.compile(make_optimizer("adamw", rate, weight_decay=0.1), run_eagerly=True)
    model.optimizer.build(classifier.trainable_variables)
    checkpoints = Checkpoints(folder, model)
    checkpoints.set_model(model)
    return model, checkpoints


def state_of(model):
    variables = [*model.classifier.weights, *model.optimizer.variables, *model.update.variables]
    return [v.numpy() for v in variables]


def test_a_restored_training_goes_on_bit_equal(tmp_path, batches):
    model, checkpoints = make_model(tmp_path)
    model.fit(batches, steps_per_epoch=2, verbose=0)
    checkpoints.save()
    model.fit(batches, steps_per_epoch=3, verbose=0)
    resumed, checkpoints = make_model(tmp_path)
    assert checkpoints.restore()
    resumed.fit(batches, steps_per_epoch=3, verbose=0)
    for one, other in zip(state_of(resumed), state_of(model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert float(resumed.update.loss_scale.value) == 512.0
    assert int(resumed.update.loss_scale.good_steps) == 2


def test_checkpoints_without_these_options_hold_what_they_held():
    assert Update().checkpointed == {}
    assert Update(gradient_clip=1.0).checkpointed == {}


def test_a_run_older_than_these_settings_is_resumed(tmp_path):
    """Its config lacks them, and they have their defaults; a set one is another config."""
    config = configured(training__schedule={"name": "cosine"})
    old = json.loads(config.to_json())
    for key in ("optimizer", "gradient_clip", "ema", "search_growth", "weight_warmup"):
        del old["training"][key]
    run = RunFolder(tmp_path)
    run.config.write_text(json.dumps(old))

    def read(path):
        return load_config(str(path)).to_json()

    run.claim(config.to_json(), resume=True, read=read)
    for json_text, reader in (
        (configured(training__ema=0.9, training__schedule={"name": "cosine"}).to_json(), read),
        (config.to_json(), Path.read_text),
    ):
        with pytest.raises(UserError, match="belongs to another config"):
            run.claim(json_text, resume=True, read=reader)


# XLA.


@pytest.mark.parametrize(
    "neighborhood",
    [
        {"name": "spatial"},
        {"name": "composite", "stages": [{"name": "linf", "epsilon": 0.1}, {"name": "spatial"}]},
    ],
    ids=lambda n: n["name"],
)
def test_xla_is_refused_where_it_has_no_kernel(neighborhood):
    with pytest.raises(InvalidSettings) as caught:
        configured(neighborhood=neighborhood, training__jit_compile=True)
    (line,) = caught.value.problems
    assert line.startswith("training.jit_compile: got true with a spatial")
    assert not configured(neighborhood=neighborhood).training.jit_compile


def test_xla_reaches_the_model():
    config = configured(training__jit_compile=True)
    model = build_model(config, INFO, make_plan(config, INFO))
    assert model.jit_compile is True


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("optimizer", "adam", "training.optimizer: got 'adam'"),
        ("gradient_clip", 0, "training.gradient_clip: got 0"),
        ("ema", 1, "training.ema: got 1"),
        ("search_growth", 1.5, "training.search_growth: got 1.5"),
        ("weight_warmup", -0.1, "training.weight_warmup: got -0.1"),
        ("jit_compile", 1, "training.jit_compile: got 1; allowed: true or false"),
    ],
)
def test_settings_out_of_range_are_named(key, value, words):
    with pytest.raises(InvalidSettings) as caught:
        configured(**{f"training__{key}": value})
    (line,) = caught.value.problems
    assert line.startswith(words)
