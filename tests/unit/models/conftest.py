"""Built models and images."""

import dataclasses
import functools

import numpy as np
import pytest
from small_models import CASES, MEAN, SHAPE, STD

from keras_srt.core.tensorflow import keras


@pytest.fixture(scope="session")
def built():
    """Builds a case once for all tests that leave it as it is: those for photos take seconds.

    A model has the same weights whatever its precision and normalization are.
    """

    @functools.cache
    def build(name, precision="float32", mean=MEAN, std=STD):
        keras.utils.set_random_seed(0)
        case = dataclasses.replace(CASES[name][0], mean=mean, std=std)
        return case.build(SHAPE, 7, precision)

    return build


@pytest.fixture
def photos():
    """Five color images in [0, 1]."""
    return np.random.default_rng(3).random((5, *SHAPE), np.float32)
