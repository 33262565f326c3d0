"""Backbones from keras.applications; those that load published weights are tested at night."""

import pytest
from small_models import SHAPE

from keras_srt.core.errors import InvalidSettings
from keras_srt.models import MobileNetV2


def test_unreadable_weights_are_an_error(tmp_path):
    path = tmp_path / "other.weights.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\nnothing")
    ours = MobileNetV2(width=0.1, weights=str(path))
    with pytest.raises(InvalidSettings, match="which can't be read as the weights of "):
        ours.initialize(ours.build(SHAPE, 7))
