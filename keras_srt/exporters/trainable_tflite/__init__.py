"""`model_train.tflite`: a classifier that goes on learning on a terminal device."""

from __future__ import annotations

from keras_srt.exporters.trainable_tflite.exporter import (
    TRAIN_FILE,
    DeviceTrainingSettings,
    write_trainable,
)
from keras_srt.exporters.trainable_tflite.weights import assign_weights

__all__ = ["TRAIN_FILE", "DeviceTrainingSettings", "assign_weights", "write_trainable"]
