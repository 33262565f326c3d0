"""A backbone from keras.applications takes the weights that Keras publishes, or none."""

import numpy as np
import pytest
from small_models import SHAPE

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import keras
from keras_srt.models import MobileNetV2, ResNet50


def test_published_weights_are_loaded(photos, tmp_path):
    theirs = keras.applications.MobileNetV2(
        alpha=0.35, include_top=False, weights=None, pooling="avg", input_shape=SHAPE
    )
    theirs.save_weights(tmp_path / "no_top.weights.h5")
    ours = MobileNetV2(
        width=0.35, batch_norm_momentum=0.8, weights=str(tmp_path / "no_top.weights.h5")
    )
    model = ours.build(SHAPE, 7)
    ours.initialize(model)
    backbone = model.get_layer("backbone")
    normalized = (photos - 0.5) / 0.5  # as these weights take them
    wanted = theirs(normalized, training=False).numpy()
    np.testing.assert_allclose(
        backbone(normalized, training=False), wanted, atol=1e-5 * np.max(np.abs(wanted))
    )
    norms = [x for x in model.submodules if isinstance(x, keras.layers.BatchNormalization)]
    assert {norm.momentum for norm in norms} == {0.8}


def test_unreadable_weights_are_an_error(tmp_path):
    path = tmp_path / "other.weights.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\nnothing")
    ours = ResNet50(weights=str(path))
    with pytest.raises(InvalidSettings, match="which can't be read as the weights of "):
        ours.initialize(ours.build(SHAPE, 7))
