"""Recognition on a terminal device: NumPy, Pillow and a TFLite interpreter, no TensorFlow."""

from keras_srt.device.classify import BadModel, Classifier

__all__ = ["BadModel", "Classifier"]
