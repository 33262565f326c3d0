"""Models: name -> builder of a functional Keras classifier."""

from keras_srt.components import Registry
from keras_srt.models.base import ModelBuilder
from keras_srt.models.resnet import ResNet
from keras_srt.models.small_cnn import SmallCNN
from keras_srt.models.wide_resnet import WideResNet

MODELS: Registry[ModelBuilder] = Registry(
    "model",
    SmallCNN,
    WideResNet,
    ResNet,
)

__all__ = ["MODELS", "ModelBuilder", "ResNet", "SmallCNN", "WideResNet"]
