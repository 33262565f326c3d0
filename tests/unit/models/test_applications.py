"""Backbones from keras.applications; those that load published weights are tested at night."""

import dataclasses

import numpy as np
import pytest
from pooled_application import Pooled

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import keras
from keras_srt.models import MobileNetV2, MobileNetV3
from keras_srt.models.dropout import Dropout


def test_unreadable_weights_are_an_error(tmp_path):
    path = tmp_path / "other.weights.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\nnothing")
    backbone = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="backbone")
    model = keras.Sequential([keras.Input((4,)), backbone])
    with pytest.raises(InvalidSettings, match="which can't be read as the weights of "):
        MobileNetV2(width=0.1, weights=str(path)).initialize(model)


def test_imagenet_weights_go_into_the_backbone():
    case = Pooled(weights="imagenet")
    model = case.build((8, 8, 3), 2)
    logits = model.get_layer("logits").get_weights()
    case.initialize(model)
    for weight in model.get_layer("backbone").get_weights():
        np.testing.assert_array_equal(weight, 7.0)
    np.testing.assert_array_equal(model.get_layer("logits").get_weights()[0], logits[0])


def test_layers_of_a_backbone_are_replaced():
    backbone = Pooled().build((8, 8, 3), 2).get_layer("backbone")
    (norm,) = (x for x in backbone.layers if isinstance(x, keras.layers.BatchNormalization))
    (dropout,) = (x for x in backbone.layers if isinstance(x, keras.layers.Dropout))
    assert norm.momentum == 0.5
    assert isinstance(dropout, Dropout)
    assert tuple(dropout.noise_shape) == (None, 1, 1, 1)


def test_imagenet_needs_three_channels_and_a_network(monkeypatch, tmp_path):
    case = Pooled(weights="imagenet")
    with pytest.raises(InvalidSettings, match="for images with 1 channels; allowed: color images"):
        case.initialize(case.build((8, 8, 1), 2))

    def offline(*args, **kwargs):
        raise Exception("URL fetch failure on https://storage.googleapis.com/x: None")

    model = case.build((8, 8, 3), 2)
    monkeypatch.setattr(Pooled, "backbone", offline)
    with pytest.raises(InvalidSettings, match=r"be downloaded \(URL fetch failure.*allowed: run"):
        case.initialize(model)


def test_mobilenet_v3_has_two_sizes():
    small, large = (
        MobileNetV3(size, width=0.25).build((32, 32, 3), 3) for size in ("small", "large")
    )
    assert small.count_params() < large.count_params()
    with pytest.raises(InvalidSettings, match="size"):
        dataclasses.replace(MobileNetV3(), size="medium")
