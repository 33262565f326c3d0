"""Rows of the global batch, and what replicas exchange."""

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.core.tensorflow import keras
from keras_srt.models.batch_norm import BatchNormalization
from keras_srt.neighborhoods import L0, L2, Color, Composite, LInf, Noise, Spatial, draws
from keras_srt.objectives import Batch
from keras_srt.training import replicas

SEED = (3, 5)
PIXEL, TURN = LInf(epsilon=0.3, num_steps=1), Spatial(num_samples=2)


@pytest.mark.parametrize(
    "neighborhood",
    [
        PIXEL,
        LInf(epsilon=0.3, num_steps=1, random_start=0.1),
        L2(epsilon=1, num_steps=1),
        L0(epsilon=3, num_steps=1),
        TURN,
        Color(search="random", num_samples=2),
        Color(num_steps=1),
        Noise(epsilon=0.1),
        Noise(sigma=0.1, num_samples=2),
        Composite(stages=(PIXEL, TURN)),
        Composite(stages=(TURN, PIXEL), mode="joint"),
    ],
    ids=lambda neighborhood: neighborhood.name,
)
def test_rows_of_a_batch_find_what_the_whole_batch_does(neighborhood):
    """Two replicas' rows of 3 labeled and 4 unlabeled images, put together."""
    images = tf.constant(np.random.default_rng(0).random((7, 6, 6, 3), np.float32))
    weights = tf.constant(np.random.default_rng(1).normal(size=(6, 6, 3)).astype(np.float32))

    def loss(moved):
        return tf.reduce_sum(weights * moved, [1, 2, 3])

    whole = neighborhood.maximize(images, loss, tf.constant(SEED)).images.numpy()
    assert np.any(whole != images)
    for labeled, unlabeled in (((0, 1), (0, 2)), ((1, 2), (2, 2))):
        parts = [draws.Rows(*labeled, 3), draws.Rows(*unlabeled, 4)]
        seed = draws.for_rows(tf.constant(SEED), parts)
        own = seed.rows.numpy()
        found = neighborhood.maximize(tf.gather(images, own), loss, seed).images
        np.testing.assert_array_equal(found, whole[own])


def test_the_seed_of_one_device_is_the_seed_itself(images, labels):
    batch = Batch(images, labels)
    seed = tf.constant(SEED)
    assert batch.seed_for(seed, "labeled") is seed
    rows = {"labeled": draws.Rows(1, 2, 4), "unlabeled": draws.Rows(3, 1, 5)}
    shared = batch._replace(rows=rows).seed_for(seed, "labeled", "unlabeled", "unlabeled")
    assert shared.rows.numpy().tolist() == [1, 2, 4 + 3, 4 + 5 + 3]
    assert int(shared.total) == 4 + 5 + 5


def test_folded_and_split_seeds_keep_their_rows():
    seed = draws.for_rows(tf.constant(SEED), [draws.Rows(2, 2, 6)])
    for made in (draws.fold(seed, 7), *draws.split(seed, 2)):
        assert made.rows.numpy().tolist() == [2, 3]
        whole = draws.normal([6, 2], made.key)
        np.testing.assert_array_equal(draws.normal([2, 2], made), whole[2:4])


def test_one_replica_exchanges_nothing():
    assert replicas.count() == 1
    assert replicas.held_rows({"labeled": tf.constant(3)}) is None
    losses = [tf.constant([1.0, 2.0]), tf.constant([3.0])]
    assert [float(share) for share in replicas.average(losses)] == [1.5, 3.0]


def test_batch_norm_of_one_replica_is_that_of_keras():
    """Outputs, moving mean and moving variance, which has Bessel's correction in Keras 2."""
    values = np.random.default_rng(0).normal(3, 2, (4, 5, 5, 2)).astype(np.float32)
    layers = [BatchNormalization(), keras.layers.BatchNormalization()]
    for _ in range(3):
        own, expected = (layer(values, training=True) for layer in layers)
        np.testing.assert_allclose(own, expected, atol=1e-5)
    for own, expected in zip(*(layer.get_weights() for layer in layers), strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-7)
    layers[0].set_weights(layers[1].get_weights())
    inference = [layer(values, training=False) for layer in layers]
    np.testing.assert_array_equal(*inference)
