"""TRADES and KLR against their formulas, and the gradient of the clean branch."""

import numpy as np
import pytest
import tensorflow as tf
from objective_helpers import (
    BALL,
    SEED,
    TURN,
    assert_gradient_is_the_slope,
    cross_entropy,
    in_single,
    kl,
    numpy_mlp,
    total,
)

from keras_srt.objectives import (
    KLR,
    Target,
    Trades,
    losses,
)
from keras_srt.objectives.trades import Pairs


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
