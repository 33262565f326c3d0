"""Wide residual networks."""

import pytest
from small_models import num_trainable

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import keras
from keras_srt.models import WideResNet


def test_wrn_34_10_has_the_published_size():
    """46.2 million; of these the running statistics of BatchNorm are not trained."""
    model = WideResNet().build((32, 32, 3), 10)
    weights, width = 27 * 16, 16
    for filters in (160, 320, 640):
        for block in range(5):
            weights += 2 * width + 9 * width * filters + 2 * filters + 9 * filters * filters
            weights += width * filters if block == 0 else 0
            width = filters
    weights += 2 * 640 + 640 * 10 + 10
    assert weights == 46_160_474
    assert num_trainable(model) == 46_160_474
    assert sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers) == 34


@pytest.mark.parametrize(("depth", "blocks"), [(10, 1), (16, 2)])
def test_wrn_has_6_blocks_and_4_more_layers(depth, blocks):
    model = WideResNet(depth=depth, widening=1).build((8, 8, 3), 10)
    assert sum(isinstance(layer, keras.layers.Add) for layer in model.layers) == 3 * blocks
    # The depth counts the shortcuts of three stages; the first has none if it isn't wider.
    convolutions = sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers)
    assert convolutions == depth - 1


@pytest.mark.parametrize("depth", [11, 12, 15, 35])
def test_invalid_depths_are_rejected(depth):
    with pytest.raises(InvalidSettings, match=f"^depth: got {depth}; allowed: 6·blocks"):
        WideResNet(depth=depth)
