"""A batch and a small network, for the tests of objectives."""

import pytest
from objective_helpers import make_batch, make_mlp, mlp_weights


@pytest.fixture
def batch(images, labels, unlabeled):
    """Four labeled images and six unlabeled images with pseudo-labels."""
    return make_batch(images, labels, unlabeled)


@pytest.fixture
def weights():
    """Weights of a small smooth network, float64."""
    return mlp_weights()


@pytest.fixture
def mlp(weights):
    """The network in TensorFlow, and its variables."""
    return make_mlp(weights)
