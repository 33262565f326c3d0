"""`RobustModel`: what a training step does, what evaluation reports."""

import importlib

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import keras
from keras_srt.neighborhoods import Composite, LInf, Perturbed, Spatial
from keras_srt.objectives import RST, RT, SRT, Adversarial, Standard, Target, losses
from keras_srt.training.model import RobustModel, linear_warmup

PIXEL = LInf(epsilon=0.1, num_steps=2)
TURN = Spatial(max_rotation=20, max_translation=1, num_samples=3)


@pytest.fixture
def batches(images, labels, unlabeled):
    """Endless batches of the same images, with and without labels."""
    data = {"labeled": (images, labels), "unlabeled": unlabeled}
    return tf.data.Dataset.from_tensors(data).repeat()


@pytest.fixture
def plain(images, labels):
    """Batches `(images, labels)`."""
    return tf.data.Dataset.from_tensors((images, labels)).repeat()


@pytest.fixture
def make_model(make_classifier):
    """Makes a compiled model of the same initial weights each time.

    Its steps run eagerly: tracing one takes longer than the steps of a test.
    """

    def make(
        neighborhood=PIXEL, objective=None, optimizer=None, batch_norm=True, eager=True, **settings
    ):
        keras.utils.set_random_seed(0)
        model = RobustModel(make_classifier(batch_norm), neighborhood, objective, **settings)
        optimizer = keras.optimizers.SGD(0.1) if optimizer is None else optimizer
        model.compile(optimizer, run_eagerly=eager)
        return model

    return make


def fitted(model, data, steps=3):
    """The weights after a few steps, and the last values of the metrics."""
    history = model.fit(data, steps_per_epoch=steps, epochs=1, verbose=0)
    return model.classifier.get_weights(), {k: v[-1] for k, v in history.history.items()}


def differ(one, other):
    """Whether any weight differs in any bit."""
    return any(np.any(a != b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("neighborhood", [PIXEL, TURN, Composite(stages=(PIXEL, TURN))])
def test_fit_with_labeled_and_unlabeled_images(neighborhood, batches, make_model):
    model = make_model(neighborhood)
    before = model.classifier.get_weights()
    after, metrics = fitted(model, batches)
    assert all(np.any(a != b) for a, b in zip(before, after, strict=True))
    assert set(metrics) == {"loss", "labeled", "robust"}
    assert metrics["loss"] == pytest.approx(metrics["labeled"] + metrics["robust"], rel=1e-5)


@pytest.mark.parametrize(
    ("objective", "names"),
    [
        (Standard(), {"loss", "labeled"}),
        (Adversarial(), {"loss", "robust"}),
        (RT(), {"loss", "labeled", "robust"}),
    ],
)
def test_fit_with_images_and_labels(objective, names, plain, make_model):
    _, metrics = fitted(make_model(PIXEL, objective), plain)
    assert set(metrics) == names


def test_fit_with_arrays_and_a_model_of_the_user(images, labels):
    classifier = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
    model = RobustModel(classifier, LInf(epsilon=0.05, num_steps=2), RT())
    model.compile("adam")
    history = model.fit(images, labels, batch_size=2, epochs=10, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert model.predict(images, verbose=0).shape == (4, 3)
    np.testing.assert_allclose(model(images), classifier(images))


def test_training_learns_what_it_is_asked(batches, make_model, images, labels):
    model = make_model(
        LInf(epsilon=0.02, num_steps=2), optimizer="adam", batch_norm=False, eager=False
    )
    model.fit(batches, steps_per_epoch=200, verbose=0)
    accuracies = model.evaluate(images, labels, verbose=0, return_dict=True)
    assert accuracies == {"accuracy": 1.0, "robust_accuracy": 1.0}


def test_a_step_is_the_gradient_of_the_objective(batches, make_model, images, labels, unlabeled):
    """One step by hand: λ = 0.5, and ½·0.01·‖w‖² on every trainable weight."""
    case = SRT(robust_weight=0.5)
    model = make_model(LInf(epsilon=0), case, batch_norm=False, weight_decay=0.01)
    classifier = model.classifier
    weights = [tf.constant(w) for w in classifier.get_weights()]
    everything = np.concatenate([images, unlabeled])
    answers = np.argmax(classifier(everything), axis=1)
    with tf.GradientTape() as tape:
        clean = losses.cross_entropy(Target(labels), classifier(images))
        robust = losses.cross_entropy(Target(answers), classifier(everything))
        value = tf.reduce_mean(clean) + 0.5 * tf.reduce_mean(robust)
        variables = classifier.trainable_variables
        decayed = value + 0.5 * 0.01 * tf.add_n([tf.reduce_sum(v**2) for v in variables])
    expected = [
        w - 0.1 * g for w, g in zip(weights, tape.gradient(decayed, variables), strict=True)
    ]
    found, metrics = fitted(model, batches, steps=1)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert metrics["labeled"] == pytest.approx(np.mean(clean), rel=1e-5)
    assert metrics["robust"] == pytest.approx(np.mean(robust), rel=1e-5)
    assert metrics["loss"] == pytest.approx(float(value), rel=1e-5)


def test_weight_decay_adds_the_weights_to_the_gradient(plain, make_model):
    changed = {}
    for decay in (0.0, 0.3):
        model = make_model(None, Standard(), weight_decay=decay)
        start = [v.numpy() for v in model.classifier.trainable_variables]
        fitted(model, plain, steps=1)
        changed[decay] = [v.numpy() for v in model.classifier.trainable_variables]
    for w, without, with_decay in zip(start, changed[0.0], changed[0.3], strict=True):
        np.testing.assert_allclose(with_decay, without - 0.1 * 0.3 * w, atol=1e-6)


def test_penalties_of_layers_are_part_of_what_is_minimized(images, labels):
    dense = keras.layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.5))
    model = RobustModel(keras.Sequential([keras.layers.Flatten(), dense]), None, Standard())
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    model(images)
    start = dense.kernel.numpy()
    with tf.GradientTape() as tape:
        value = tf.reduce_mean(losses.cross_entropy(Target(labels), model(images)))
    gradient = tape.gradient(value, dense.kernel)
    model.fit(images, labels, verbose=0)
    np.testing.assert_allclose(dense.kernel, start - 0.1 * (gradient + start), atol=1e-6)


def test_training_is_a_function_of_the_seed(batches, make_model):
    first, _ = fitted(make_model(TURN, seed=3), batches)
    again, _ = fitted(make_model(TURN, seed=3), batches)
    other, _ = fitted(make_model(TURN, seed=4), batches)
    assert not differ(first, again)
    assert differ(first, other)


def test_the_draws_of_a_step_depend_on_its_number_alone(batches, make_model):
    """Three steps equal two steps, an interruption, and the third."""
    model = make_model(TURN, seed=3)
    model.optimizer.build(model.classifier.trainable_variables)
    all_at_once, _ = fitted(make_model(TURN, seed=3), batches, steps=3)
    two, _ = fitted(model, batches, steps=2)
    resumed = make_model(TURN, seed=3)
    resumed.classifier.set_weights(two)
    resumed.optimizer.build(resumed.classifier.trainable_variables)
    resumed.optimizer.iterations.assign(2)
    after, _ = fitted(resumed, batches, steps=1)
    assert not differ(after, all_at_once)
    restarted = make_model(TURN, seed=3)
    restarted.classifier.set_weights(two)
    assert differ(fitted(restarted, batches, steps=1)[0], all_at_once)


def test_linear_warmup():
    shares = [float(linear_warmup(4)(tf.constant(step, tf.int64))) for step in range(6)]
    assert shares == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert float(linear_warmup(0)(tf.constant(0, tf.int64))) == 1.0


def test_the_strength_of_each_step_reaches_the_search(batches, make_model):
    """A neighborhood of share 0 trains as one of range 0, a share of 1 as the full one."""

    def weights(neighborhood, strength):
        model = make_model(neighborhood)
        model.strength = strength or model.strength
        return fitted(model, batches)[0]

    none = weights(PIXEL, lambda step: tf.constant(0.0))
    full = weights(PIXEL, None)
    assert not differ(none, weights(LInf(epsilon=0, num_steps=2), None))
    assert not differ(full, weights(PIXEL, lambda step: tf.constant(1.0)))
    assert differ(none, full)


def test_the_strength_is_a_function_of_the_step(batches, make_model):
    seen = []

    def strength(step):
        tf.py_function(lambda number: seen.append(int(number)), [step], [])
        return tf.constant(1.0)

    model = make_model(strength_warmup=3)
    model.strength = strength
    fitted(model, batches, steps=3)
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("objective", [None, SRT(), RT(), Adversarial()])
def test_an_objective_that_searches_needs_a_neighborhood(objective, make_classifier):
    name = "srt" if objective is None else objective.name
    with pytest.raises(InvalidSettings, match=f"^neighborhood: got None.*'{name}'"):
        RobustModel(make_classifier(), None, objective)


def test_accuracies_of_evaluation(images, labels, unlabeled, make_model):
    """Right before, and right before and after, counted by hand over uneven batches."""
    model = make_model(LInf(epsilon=0.03, num_steps=3), seed=5)
    classifier = model.classifier
    pixels = np.concatenate([images, unlabeled])
    truth = np.argmax(classifier(pixels), axis=1).astype(np.int32)
    truth[::4] = (truth[::4] + 1) % 3
    right = still = 0
    for start in (0, 4, 8):
        x, y = pixels[start : start + 4], truth[start : start + 4]
        found = model.neighborhood.maximize(
            x, lambda z, y=y: losses.cross_entropy(Target(y), classifier(z)), (5, 0)
        )
        before = np.argmax(classifier(x), axis=1) == y
        right += np.sum(before)
        still += np.sum(before & (np.argmax(classifier(found.images), axis=1) == y))
    assert 0 < still < right < len(pixels)
    found = model.evaluate(pixels, truth, batch_size=4, verbose=0, return_dict=True)
    assert found["accuracy"] == pytest.approx(right / len(pixels))
    assert found["robust_accuracy"] == pytest.approx(still / len(pixels))


def test_robust_accuracy_leaves_out_what_was_wrong_before():
    """Right and right; right, then wrong; wrong, then right: only the first one counts."""

    class Swap(LInf):
        def maximize(self, images, loss_fn, seed, scale=1.0, start_loss=None):
            swapped = tf.constant([0.0, 1.0, 1.0])[:, None, None, None]
            return Perturbed(tf.abs(images - swapped), None, None)

    is_bright = keras.layers.Lambda(lambda x: tf.stack([0.5 + 0 * x[:, 0, 0, 0], x[:, 0, 0, 0]], 1))
    model = RobustModel(keras.Sequential([is_bright]), Swap(epsilon=1))
    model.compile(run_eagerly=True)
    images = np.float32([0, 1, 1])[:, None, None, None]
    found = model.evaluate(images, np.int32([0, 1, 0]), verbose=0, return_dict=True)
    assert found == pytest.approx({"accuracy": 2 / 3, "robust_accuracy": 1 / 3})


def test_evaluation_changes_nothing(images, labels, make_model):
    model = make_model()
    before = [value.numpy() for value in model.classifier.variables]
    first = model.evaluate(images, labels, verbose=0, return_dict=True)
    assert not differ(before, model.classifier.get_weights())
    assert model.evaluate(images, labels, verbose=0, return_dict=True) == first
    assert set(first) == {"accuracy", "robust_accuracy"}


def test_without_a_neighborhood_evaluation_reports_clean_accuracy(images, labels, make_model):
    found = make_model(None, Standard()).evaluate(images, labels, verbose=0, return_dict=True)
    assert set(found) == {"accuracy"}


def test_validation_during_fit(batches, images, labels, make_model):
    history = make_model().fit(
        batches, steps_per_epoch=2, epochs=2, validation_data=(images, labels), verbose=0
    )
    expected = {"loss", "labeled", "robust", "val_accuracy", "val_robust_accuracy"}
    assert set(history.history) == expected


def test_loss_metrics_are_means_over_an_epoch(images, labels, make_model):
    still = keras.optimizers.SGD(0.0)
    model = make_model(None, Standard(), optimizer=still, batch_norm=False)
    expected = np.mean(losses.cross_entropy(Target(labels), model(images)))
    history = model.fit(images, labels, batch_size=2, epochs=2, verbose=0).history
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-6)
    np.testing.assert_allclose(history["labeled"], expected, rtol=1e-6)


def test_the_step_is_traced_once(batches, make_classifier):
    traces = []

    class Counted(RobustModel):
        def train_step(self, data):
            traces.append(1)
            return super().train_step(data)

    model = Counted(make_classifier(), TURN, SRT(), strength_warmup=3)
    model.compile("sgd")
    # Else TensorFlow traces once more, because the first trace makes the optimizer's state.
    model.optimizer.build(model.classifier.trainable_variables)
    model.fit(batches, steps_per_epoch=3, epochs=2, verbose=0)
    assert len(traces) == 1


@pytest.fixture
def set_determinism(monkeypatch):
    """Pretend that deterministic operations are on or off; they can't be turned off again."""
    config = importlib.import_module("tensorflow.python.framework.config")

    def set_to(on):
        monkeypatch.setattr(config, "is_op_determinism_enabled", lambda: on)

    return set_to


def test_xla_is_off_unless_asked_for(make_classifier, set_determinism):
    model = RobustModel(make_classifier(), PIXEL)
    model.compile("sgd")
    assert model.jit_compile is False
    set_determinism(False)
    model.compile("sgd", jit_compile=True)
    assert model.jit_compile is True


@pytest.mark.skipif(keras.__version__ < "3", reason="Keras 2 uses XLA with determinism")
@pytest.mark.filterwarnings("ignore:Model doesn't support")
def test_xla_that_keras_3_would_leave_out_is_refused(make_classifier, set_determinism):
    set_determinism(True)
    with pytest.raises(InvalidSettings, match=r"jit_compile: got True.*allowed: False, or Keras 2"):
        RobustModel(make_classifier(), PIXEL).compile("sgd", jit_compile=True)


def test_training_and_validation_search_their_own_neighborhoods(
    batches, make_model, images, labels
):
    def trained(*args, **settings):
        model = make_model(*args, **settings)
        return fitted(model, batches)[0], model.evaluate(images, labels, verbose=0)

    small = LInf(epsilon=0.01, num_steps=1)
    weights, measured = trained(PIXEL, training_search=small)
    small_weights, small_measured = trained(small)
    assert not differ(weights, small_weights)
    assert differ(weights, trained(PIXEL)[0])
    model = make_model(PIXEL)
    model.classifier.set_weights(weights)
    assert measured[-1] == model.evaluate(images, labels, verbose=0)[-1] <= small_measured[-1]


def test_pseudo_labels_of_the_average_are_its_predictions(batches, make_model, unlabeled):
    model = make_model(objective=SRT(pseudo_labels="average"), ema=0.9)
    given = []
    prepare = model.search.prepare

    def spy(classifier, batch, *args):
        given.append(batch.pseudo_labels)
        return prepare(classifier, batch, *args)

    object.__setattr__(model.search, "prepare", spy)
    fitted(model, batches, steps=2)
    changed = [layer.get_weights() for layer in model.average.layers]
    assert any(map(len, changed))
    expected = make_model(objective=SRT(pseudo_labels="average"), ema=0.9)
    np.testing.assert_allclose(
        given[0], tf.nn.softmax(expected.average(unlabeled, training=False)), atol=1e-6
    )
    assert np.any(np.abs(given[1] - given[0]) > 1e-6)
    with pytest.raises(InvalidSettings, match=r"training\.ema: got null"):
        make_model(objective=SRT(pseudo_labels="average"))


@pytest.mark.parametrize("objective", [RST(), SRT(pseudo_labels="teacher")])
def test_pseudo_labels_are_class_ids_or_probabilities(
    objective, images, labels, unlabeled, make_model
):
    ids = np.int32([2, 0, 1, 1, 0, 2])
    soft = np.eye(3, dtype=np.float32)[ids]

    def trained(pseudo):
        data = {"labeled": (images, labels), "unlabeled": unlabeled, "pseudo_labels": pseudo}
        model = make_model(PIXEL, objective)
        return fitted(model, tf.data.Dataset.from_tensors(data).repeat(), steps=2)[0]

    assert not differ(trained(ids), trained(soft))


def test_initial_weights_of_another_classifier(make_model, make_classifier):
    model, other = make_model(ema=0.9), make_classifier()
    other.set_weights([weight + 1 for weight in other.get_weights()])
    model.start_from(other)
    for started in (model.classifier, model.average):
        assert not differ(started.get_weights(), other.get_weights())
    with pytest.raises(InvalidSettings, match=r"initial_weights: got 'teacher'"):
        model.start_from(make_classifier(batch_norm=False))
