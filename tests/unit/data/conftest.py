"""Class ids to split."""

import numpy as np
import pytest


@pytest.fixture
def class_ids():
    """1,000 labels of four classes: 500, 300, 150 and 50."""
    sizes = (500, 300, 150, 50)
    return np.random.default_rng(0).permutation(np.repeat(np.arange(4), sizes)).astype(np.int32)
