"""The Wilson interval against published values."""

import numpy as np
import pytest

from keras_srt.evaluation.intervals import proportion


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
