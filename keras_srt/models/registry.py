"""The models that a config can name."""

from __future__ import annotations

from keras_srt.core.registry import Registry
from keras_srt.models.base import ModelBuilder
from keras_srt.models.convnext import ConvNeXtTiny
from keras_srt.models.efficientnet_v2 import EfficientNetV2B0
from keras_srt.models.mobilenet import MobileNetV2
from keras_srt.models.mobilenet_v3 import MobileNetV3
from keras_srt.models.resnet import ResNet
from keras_srt.models.resnet9 import ResNet9
from keras_srt.models.resnet50 import ResNet50
from keras_srt.models.small_cnn import SmallCNN
from keras_srt.models.wide_resnet import WideResNet

MODELS: Registry[ModelBuilder] = Registry(
    "model",
    SmallCNN,
    WideResNet,
    ResNet,
    ResNet9,
    MobileNetV2,
    MobileNetV3,
    EfficientNetV2B0,
    ResNet50,
    ConvNeXtTiny,
)
