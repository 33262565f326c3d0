"""Our PGD against an independent implementation, where one is installed (pip install foolbox)."""

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.attacks import FGSM, PGD
from keras_srt.data import DATASETS
from keras_srt.evaluation import evaluate_robustness

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained():
    """A small classifier of digits, trained without any defence, and the test images."""
    tf.keras.utils.set_random_seed(0)
    source = DATASETS.build({"name": "digits", "size": 16})
    (images, labels), (test, answers) = source.load_train(None), source.load_test(None)
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            tf.keras.Input((16, 16, 1)),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf.keras.optimizers.Adam(1e-3), loss)
    model.fit(np.float32(images / 255), labels, batch_size=64, epochs=12, verbose=0)
    return model, np.float32(test / 255), answers


@pytest.mark.parametrize("epsilon", [0.03, 0.06])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_agrees_with_foolbox(trained, norm, epsilon):
    foolbox = pytest.importorskip("foolbox", reason="pip install foolbox")
    model, images, labels = trained
    if norm == "l2":
        epsilon *= 10
    theirs = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[norm](
        abs_stepsize=2.5 * epsilon / 40, steps=40, random_start=True
    )
    bounded = foolbox.TensorFlowModel(model, bounds=(0, 1))
    _, found, fooled = theirs(bounded, tf.constant(images), tf.constant(labels), epsilons=epsilon)
    their_accuracy = 1 - float(np.mean(fooled))
    attack = PGD(epsilon=epsilon, norm_ball=norm, num_steps=40)
    outcome = evaluate_robustness(model, images, labels, [attack])
    ours = float(np.mean(outcome.still_right("pgd")))
    assert 0.05 < ours < 0.95  # else the comparison would show nothing
    assert ours == pytest.approx(their_accuracy, abs=0.01)
    # Stopping at the first success, ours must not be the weaker one by more than chance.
    assert ours <= their_accuracy + 0.006
    assert np.isfinite(found.numpy()).all()


def test_fgsm_agrees_with_foolbox_image_by_image(trained):
    foolbox = pytest.importorskip("foolbox", reason="pip install foolbox")
    model, images, labels = trained
    bounded = foolbox.TensorFlowModel(model, bounds=(0, 1))
    _, found, fooled = foolbox.attacks.FGSM()(
        bounded, tf.constant(images), tf.constant(labels), epsilons=0.05
    )
    outcome = evaluate_robustness(model, images, labels, [FGSM(epsilon=0.05)])
    right = outcome.right
    np.testing.assert_array_equal(outcome.still_right("fgsm")[right], ~fooled.numpy()[right])
    np.testing.assert_allclose(
        outcome.verdicts["fgsm"].images[right], found.numpy()[right], atol=1e-6
    )
