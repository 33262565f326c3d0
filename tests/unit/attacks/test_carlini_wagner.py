"""Carlini and Wagner's attack: Adam, the binary search, aborts and confidence."""

import numpy as np
import pytest
import tensorflow as tf
from linear_models import SEED, affine, constant, pairwise_distances, run

from keras_srt.attacks import CarliniWagner, Criterion
from keras_srt.attacks.batch_progress import BatchProgress
from keras_srt.attacks.carlini_wagner import _Descent
from keras_srt.attacks.target_model import Predictions, TargetModel
from keras_srt.core.tensorflow import keras

CW = {
    "epsilon": 1.0,
    "iterations": 100,
    "searches": 6,
    "learning_rate": 0.02,
    "initial_const": 0.1,
}


def test_adam_equals_keras_adam():
    generator = np.random.default_rng(5)
    images = np.float32(generator.uniform(0.1, 0.9, (3, 2, 2, 1)))
    descent, squashed = _Descent(images, 0.03), tf.Variable(np.arctanh(2 * images - 1))
    # Keras adds its ε after scaling by the bias: the same where gradients are not tiny.
    adam = keras.optimizers.Adam(0.03, epsilon=1e-9)
    np.testing.assert_allclose(descent.images, images, atol=2e-6)
    for step in range(6):
        gradient = np.float32(generator.normal(size=images.shape))
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(gradient * (tf.tanh(squashed) + 1) / 2)
        adam.apply_gradients([(tape.gradient(loss, squashed), squashed)])
        descent.step(gradient)
        np.testing.assert_allclose(
            descent.images, (np.tanh(squashed.numpy()) + 1) / 2, atol=1e-5, err_msg=str(step)
        )


def test_dropping_images_drops_their_moments():
    generator = np.random.default_rng(6)
    images = np.float32(generator.uniform(0, 1, (3, 2, 2, 1)))
    whole, part = _Descent(images, 0.03), _Descent(images, 0.03)
    chosen = np.array([True, False, True])
    for step in range(5):
        gradient = np.float32(generator.normal(size=images.shape))
        whole.step(gradient)
        part.step(gradient if step < 2 else gradient[chosen])
        if step == 1:
            part.keep(chosen)
    np.testing.assert_array_equal(part.images, whole.images[chosen])
    assert part.images.min() >= 0
    assert part.images.max() <= 1


@pytest.mark.parametrize(
    ("succeeds", "expected"),
    [
        ([0, 0, 0, 0], [1e-3, 1e-2, 1e-1, 1.0]),
        ([0, 0, 1, 1, 0], [1e-3, 1e-2, 1e-1, 0.055, 0.0325]),
        ([1, 1, 0, 1], [1e-3, 5e-4, 2.5e-4, 3.75e-4]),
    ],
)
def test_the_constant_follows_a_binary_search(monkeypatch, gray, succeeds, expected):
    tried = []

    def scripted(self, model, images, criterion, const):
        tried.append(const[0])
        length = 4.0 - len(tried) if succeeds[len(tried) - 1] else np.inf
        return images + np.float32(0.01 * len(tried)), np.array([length])

    monkeypatch.setattr(CarliniWagner, "_search", scripted)
    attack, constant_model = (
        CarliniWagner(epsilon=1, searches=len(succeeds)),
        TargetModel(constant(3)),
    )
    nearest = attack.find_nearest(constant_model, gray[:1], Criterion(np.int32([0])), SEED)
    np.testing.assert_allclose(tried, expected)
    # The nearest success, which here is the last.
    last = max((k + 1 for k, success in enumerate(succeeds) if success), default=0)
    np.testing.assert_allclose(nearest, gray[:1] + 0.01 * last, atol=1e-6)


@pytest.mark.parametrize(("abort_early", "iterations"), [(True, 1 + 4), (False, 40)])
def test_an_image_that_stalls_drops_out_at_the_second_check(abort_early, iterations, gray):
    attack = CarliniWagner(epsilon=1, searches=3, iterations=40, abort_early=abort_early)
    _, model = run(attack, constant(3), gray, np.zeros(20))
    # The clean prediction, three searches, and the prediction of the result.
    assert model.queries == 20 * (1 + 3 * iterations + 1)


def test_one_high_objective_is_no_stall(gray):
    """As half precision rounds objectives: here only that of the third check is too high."""

    class Falling:
        calls, progress = 0, BatchProgress()

        def gradient(self, images, criterion, loss):
            missing = 10 - 0.1 * self.calls + (self.calls == 8)
            self.calls += 1
            return Predictions(np.int32([0]), np.float32([-missing])), np.zeros_like(images)

    model = Falling()
    attack = CarliniWagner(epsilon=1, iterations=40)
    attack._search(model, gray[:1], Criterion(np.int32([0])), np.ones(1))
    assert model.calls == 40


def test_confidence_is_the_margin_of_the_results(gray):
    weights, bias = np.random.default_rng(3).normal(size=(16, 2)), np.zeros(2)
    classifier = affine(weights, bias)
    labels = np.argmax(classifier(gray), axis=1)
    found, _ = run(CarliniWagner(**CW, confidence=3), classifier, gray, labels)
    logits = classifier(found.nearest).numpy()
    rows = np.arange(20)
    lead = logits[rows, 1 - labels] - logits[rows, labels]
    assert np.all(lead >= 3 - 1e-5)
    away = np.sqrt(np.square(weights[:, 1] - weights[:, 0]).sum())
    expected = pairwise_distances(weights, bias, gray, labels).min(axis=1) + 3 / away
    length = np.sqrt(np.square(np.float64(found.nearest) - gray).sum(axis=(1, 2, 3)))
    np.testing.assert_allclose(length, expected, rtol=0.02)


def test_black_and_white_pixels_can_change():
    """arctanh has them at ∓7.25, from where Adam needs some steps to be seen."""
    images = np.float32(np.random.default_rng(7).integers(0, 2, (6, 4, 4, 1)))
    classifier = affine(np.stack([np.zeros(16), np.ones(16)], axis=1), [0, 0.1])
    labels = np.argmax(classifier(images), axis=1)
    settings = {"iterations": 150, "searches": 2, "initial_const": 1, "learning_rate": 0.1}
    attack = CarliniWagner(epsilon=4, **settings, abort_early=False)
    found, _ = run(attack, classifier, images, labels)
    assert found.success.all()
