"""Models: name -> builder of a functional Keras classifier."""

from keras_srt.core.registry import Registry
from keras_srt.models.base import ModelBuilder
from keras_srt.models.mobilenet import MobileNetV2
from keras_srt.models.resnet import ResNet
from keras_srt.models.resnet50 import ResNet50
from keras_srt.models.small_cnn import SmallCNN
from keras_srt.models.wide_resnet import WideResNet

MODELS: Registry[ModelBuilder] = Registry(
    "model",
    SmallCNN,
    WideResNet,
    ResNet,
    MobileNetV2,
    ResNet50,
)

__all__ = ["MODELS", "MobileNetV2", "ModelBuilder", "ResNet", "ResNet50", "SmallCNN", "WideResNet"]
