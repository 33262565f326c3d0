"""Backbones from keras.applications; those that load published weights are tested at night."""

import pytest

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import keras
from keras_srt.models import MobileNetV2


def test_unreadable_weights_are_an_error(tmp_path):
    path = tmp_path / "other.weights.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\nnothing")
    backbone = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="backbone")
    model = keras.Sequential([keras.Input((4,)), backbone])
    with pytest.raises(InvalidSettings, match="which can't be read as the weights of "):
        MobileNetV2(width=0.1, weights=str(path)).initialize(model)
