"""SmallCNN."""

import numpy as np

from keras_srt.models import SmallCNN


def test_number_of_weights_is_that_of_trades():
    """Four convolutions, and dense layers on 4·4·64 features: 28 → 26 → 24 → 12 → 10 → 8 → 4."""
    model = SmallCNN().build((28, 28, 1), 10)
    convolutions = (9 * 1 + 1) * 32 + (9 * 32 + 1) * 32 + (9 * 32 + 1) * 64 + (9 * 64 + 1) * 64
    dense = (1024 + 1) * 200 + (200 + 1) * 200 + (200 + 1) * 10
    assert convolutions + dense == 312_202
    assert model.count_params() == 312_202


def test_dropout_is_active_in_training_only():
    model = SmallCNN(width=2, hidden=8).build((16, 16, 1), 3)
    x = np.random.default_rng(0).random((2, 16, 16, 1), np.float32)
    np.testing.assert_array_equal(model(x), model(x))
    assert np.any(model(x, training=True) != model(x, training=True))
