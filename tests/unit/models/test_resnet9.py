"""The size of ResNet-9."""

import numpy as np
from small_models import num_trainable

from keras_srt.core.tensorflow import keras
from keras_srt.models import ResNet9


def test_resnet9_has_the_documented_size():
    model = ResNet9().build((32, 32, 3), 10)
    assert num_trainable(model) == 1_646_122
    convolutions = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    multiply_adds = sum(
        np.prod(layer.kernel.shape) * np.prod(layer.output.shape[1:3]) for layer in convolutions
    )
    assert len(convolutions) == 8
    assert round(multiply_adds / 1e6) == 95
