"""Image classifiers: builders of functional Keras models."""

from keras_srt.models.base import ModelBuilder
from keras_srt.models.convnext import ConvNeXtTiny
from keras_srt.models.efficientnet_v2 import EfficientNetV2B0
from keras_srt.models.mobilenet import MobileNetV2
from keras_srt.models.mobilenet_v3 import MobileNetV3
from keras_srt.models.registry import MODELS
from keras_srt.models.resnet import ResNet
from keras_srt.models.resnet9 import ResNet9
from keras_srt.models.resnet50 import ResNet50
from keras_srt.models.small_cnn import SmallCNN
from keras_srt.models.wide_resnet import WideResNet

__all__ = [
    "MODELS",
    "ConvNeXtTiny",
    "EfficientNetV2B0",
    "MobileNetV2",
    "MobileNetV3",
    "ModelBuilder",
    "ResNet",
    "ResNet9",
    "ResNet50",
    "SmallCNN",
    "WideResNet",
]
