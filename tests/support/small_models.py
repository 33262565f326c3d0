"""A small case of each registered model."""

import numpy as np

from keras_srt.models import (
    ConvNeXtTiny,
    EfficientNetV2B0,
    MobileNetV2,
    MobileNetV3,
    ResNet,
    ResNet9,
    ResNet50,
    SmallCNN,
    WideResNet,
)

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


SHAPE = (32, 32, 3)  # the minimum of the networks for photos

# One row for each model: a small case, and images that are too small for it.
CASES = {
    "small_cnn": (SmallCNN(width=4, hidden=8, mean=MEAN, std=STD), (10, 10, 3)),
    "wide_resnet": (WideResNet(depth=10, widening=1, mean=MEAN, std=STD), None),
    "resnet": (ResNet(filters=(4, 4, 8, 8), blocks=1, mean=MEAN, std=STD), None),
    "resnet9": (ResNet9(width=2, mean=MEAN, std=STD), (7, 8, 3)),
    "mobilenet_v2": (MobileNetV2(width=0.1, mean=MEAN, std=STD), (31, 32, 3)),
    "mobilenet_v3": (MobileNetV3(width=0.25, mean=MEAN, std=STD), (31, 32, 3)),
    "efficientnet_v2_b0": (EfficientNetV2B0(mean=MEAN, std=STD), (31, 32, 3)),
    "convnext_tiny": (ConvNeXtTiny(mean=MEAN, std=STD), (31, 32, 3)),
    "resnet50": (ResNet50(mean=MEAN, std=STD), (31, 32, 3)),
}

# Those that take seconds to build keep the laws at night.
LARGE = {"mobilenet_v2", "mobilenet_v3", "efficientnet_v2_b0", "convnext_tiny", "resnet50"}


def num_trainable(model):
    """Numbers that training changes."""
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
