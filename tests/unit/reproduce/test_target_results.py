"""The mean and interval over seeds."""

import numpy as np
import pytest

from keras_srt.reproduce.target_results import summarize


def test_the_interval_of_several_seeds_is_that_of_one_model():
    ten = np.arange(10)
    found = summarize([ten < 9, ten < 7])
    assert (found["accuracy"], found["n"]) == (pytest.approx(0.8), 10)
    np.testing.assert_allclose(found["ci95"], [0.4902, 0.9433], atol=5e-5)
