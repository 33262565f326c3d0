"""Solvers: the passes they make, and loops instead of unrolled graphs."""

import numpy as np
import pytest
import tensorflow as tf
from neighborhood_laws import GRID, PIXEL, TURN

from keras_srt.neighborhoods import L0, Color, Composite, LInf, Noise, Passes, Spatial

SEED = (3, 4)


@pytest.fixture
def images():
    """Four 8×8 images with three colors; some values are exactly 0 and exactly 1."""
    values = np.random.default_rng(1).uniform(-0.2, 1.2, (4, 8, 8, 3))
    return np.clip(values, 0, 1).astype(np.float32)


@pytest.fixture
def loss_fn(images):
    """A smooth loss of each image with a different slope at each pixel."""
    weights = np.random.default_rng(5).normal(size=(*images.shape[1:], 3)).astype(np.float32)
    return lambda moved: tf.reduce_logsumexp(tf.tensordot(moved, weights, 3), axis=-1)


def test_long_searches_become_loops(images, loss_fn):
    """A graph of thousands of passes takes minutes to trace."""

    def nodes(case):
        traced = tf.function(lambda x: case.maximize(x, loss_fn, SEED).images, autograph=False)
        return len(traced.get_concrete_function(images).graph.as_graph_def().node)

    pairs = [
        (LInf(epsilon=0.1, num_steps=65), LInf(epsilon=0.1, num_steps=500)),
        (Spatial(num_samples=65), Spatial(num_samples=775)),
        (
            Composite(
                stages=(LInf(epsilon=0.1, num_steps=2), Spatial(num_samples=30)), mode="joint"
            ),
            Composite(
                stages=(LInf(epsilon=0.1, num_steps=2), Spatial(num_samples=90)), mode="joint"
            ),
        ),
    ]
    for short, long in pairs:
        assert nodes(short) == nodes(long)


@pytest.mark.parametrize(
    ("case", "passes"),
    [
        (PIXEL, Passes(0, 4)),
        (TURN, Passes(4, 0)),
        (GRID, Passes(9, 0)),
        (Spatial(search="grid"), Passes(775, 0)),
        (Composite(stages=(PIXEL, TURN)), Passes(5, 4)),
        (Composite(stages=(TURN, PIXEL)), Passes(4, 4)),
        (Composite(stages=(TURN, TURN)), Passes(8, 0)),
        (Composite(stages=(PIXEL, TURN, PIXEL, GRID)), Passes(15, 8)),
        (L0(epsilon=1, num_steps=7), Passes(0, 7)),
        (Color(num_steps=7), Passes(1, 7)),
        (Color(search="random", num_samples=7), Passes(7, 0)),
        (Noise(epsilon=0.1), Passes(0, 0)),
        (Noise(epsilon=0.1, num_samples=7), Passes(7, 0)),
    ],
)
def test_passes(case, passes):
    assert case.passes == passes
