"""Classification and training on devices with NumPy, Pillow and a TFLite interpreter."""

from keras_srt.device.classify import BadModel, Classifier

__all__ = ["BadModel", "Classifier"]
