"""The Wilson interval against published values."""

import numpy as np
import pytest

from keras_srt.evaluation.intervals import mean_share, proportion


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (50, 100, 0.4038, 0.5962),
        (1, 1, 0.2065, 1.0),
        (9500, 10000, 0.9456, 0.9541),
    ],
)
def test_wilson_interval(right, total, low, high):
    found = proportion(np.arange(total) < right)
    assert found["accuracy"] == right / total
    assert found["n"] == total
    np.testing.assert_allclose(found["ci95"], [low, high], atol=5e-5)


def test_the_interval_of_a_mean_share_is_student_t():
    result = mean_share(np.array([0.2, 0.4, 0.6, 0.8]))
    # Standard error 0.1291, t(3) = 3.1824.
    np.testing.assert_allclose(result["ci95"], [0.0892, 0.9108], atol=1e-4)
    assert mean_share(np.array([0.5]))["ci95"] == [0.0, 1.0]
