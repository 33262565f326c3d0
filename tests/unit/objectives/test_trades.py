"""TRADES and KLR against their formulas, and the gradient of the clean branch."""

import numpy as np
import pytest
import tensorflow as tf
from objective_helpers import (
    assert_gradient_is_the_slope,
    cross_entropy,
    in_single,
    kl,
    make_mlp,
    mlp_weights,
    numpy_mlp,
    total,
)

from keras_srt.neighborhoods import LInf, Spatial
from keras_srt.objectives import (
    KLR,
    Batch,
    Target,
    Trades,
    losses,
)
from keras_srt.objectives.trades import Pairs

BALL = LInf(epsilon=0.1, num_steps=3)
TURN = Spatial(max_rotation=20, max_translation=1, num_samples=4)
SEED = (1, 2)
ANSWERS = np.int32([2, 0, 1, 1, 0, 2])


@pytest.fixture
def batch(images, labels, unlabeled):
    """Four labeled images and six unlabeled images with pseudo-labels."""
    return Batch(*(tf.constant(part) for part in (images, labels, unlabeled, ANSWERS)))


@pytest.fixture
def weights():
    """Weights of a small smooth network, float64."""
    return mlp_weights()


@pytest.fixture
def mlp(weights):
    """The network in TensorFlow, and its variables."""
    return make_mlp(weights)


@pytest.mark.parametrize(
    ("objective", "neighborhood"),
    [(Trades(robust_weight=1.7), BALL), (KLR(robust_weight=1.7, num_samples=3), TURN)],
)
def test_trades_and_klr_are_the_clean_loss_and_the_kl(objective, neighborhood, batch, mlp, weights):
    prepared = objective.prepare(in_single(mlp[0]), batch, neighborhood, SEED)
    before, after = (numpy_mlp(x, *weights) for x in (batch.images, prepared.perturbed))
    divergence = kl(before, after)
    assert np.mean(divergence) > 1e-4
    expected = np.mean(cross_entropy(before, batch.labels.numpy())) + 1.7 * np.mean(divergence)
    np.testing.assert_allclose(total(objective, mlp[0], prepared), expected, rtol=1e-6)


def test_the_gradient_of_trades_flows_through_both_predictions(batch, mlp, weights):
    """Finite differences include every path, detached or not."""
    generator = np.random.default_rng(1)
    prepared = Pairs(
        tf.cast(batch.images, tf.float64), batch.labels, tf.constant(generator.random((4, 8, 8, 2)))
    )
    assert_gradient_is_the_slope(Trades(robust_weight=3), *mlp, prepared)


def test_a_detached_clean_branch_has_another_gradient(batch, mlp):
    """This is the difference between TRADES and RT with KL; the values are equal."""
    classifier, variables = mlp
    prepared = Trades().prepare(in_single(classifier), batch, BALL, SEED)
    with tf.GradientTape(persistent=True) as tape:
        value = Trades().terms(classifier, prepared)["robust"].values
        own = Target(batch.labels, tf.stop_gradient(classifier(batch.images)))
        detached = losses.kl(own, classifier(prepared.perturbed))
    np.testing.assert_allclose(value, detached, rtol=1e-9)
    one, other = (tape.gradient(part, variables[2]) for part in (value, detached))
    assert np.max(abs(one - other)) > 1e-3 * np.max(abs(other))
