"""Backbones from keras.applications: all of them, and both formats of their weights."""

import dataclasses

import numpy as np
import pytest
from small_models import SHAPE

from keras_srt.core.errors import InvalidSettings
from keras_srt.core.tensorflow import keras
from keras_srt.models import (
    ConvNeXtTiny,
    EfficientNetV2B0,
    MobileNetV2,
    MobileNetV3,
    ResNet50,
    SmallCNN,
)
from keras_srt.models.dropout import all_layers

APPLICATIONS = {
    "mobilenet_v2": (
        MobileNetV2(width=0.35, batch_norm_momentum=0.8),
        lambda **settings: keras.applications.MobileNetV2(alpha=0.35, **settings),
    ),
    "mobilenet_v3": (
        MobileNetV3(width=0.75, batch_norm_momentum=0.8),
        lambda **settings: keras.applications.MobileNetV3Small(
            alpha=0.75, include_preprocessing=False, **settings
        ),
    ),
    "efficientnet_v2_b0": (
        EfficientNetV2B0(batch_norm_momentum=0.8),
        lambda **settings: keras.applications.EfficientNetV2B0(
            include_preprocessing=False, **settings
        ),
    ),
    "convnext_tiny": (
        ConvNeXtTiny(),
        lambda **settings: keras.applications.ConvNeXtTiny(include_preprocessing=False, **settings),
    ),
    "resnet50": (
        ResNet50(batch_norm_momentum=0.8),
        lambda **settings: keras.applications.ResNet50V2(**settings),
    ),
}


@pytest.fixture(params=APPLICATIONS, scope="module")
def application(request):
    """One of ours, and how Keras makes its own."""
    return APPLICATIONS[request.param]


@pytest.fixture(scope="module")
def model(application):
    """Ours, built; no test changes it."""
    return application[0].build(SHAPE, 7)


@pytest.mark.parametrize("file", ["no_top.h5", "no_top.weights.h5"])
def test_weights_of_keras_applications_are_loaded(file, application, photos, tmp_path):
    ours, make = application
    theirs = make(include_top=False, weights=None, pooling="avg", input_shape=SHAPE)
    for layer in theirs.layers:  # statistics of BatchNorm that are not the initial ones
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(np.linspace(-1, 1, layer.moving_mean.shape[0]))
    # Keras 3 writes the older format, which the published files have, with the model only.
    save = theirs.save_weights if file.endswith(".weights.h5") else theirs.save
    save(str(tmp_path / file))
    ours = dataclasses.replace(ours, weights=str(tmp_path / file))
    model = ours.build(SHAPE, 7)
    normalized = (photos - 0.5) / 0.5  # as these weights take them
    wanted = theirs(normalized, training=False).numpy()
    backbone = model.get_layer("backbone")
    size = np.max(np.abs(wanted))
    assert np.max(np.abs(backbone(normalized, training=False) - wanted)) > 1e-2 * size
    ours.initialize(model)
    np.testing.assert_allclose(backbone(normalized, training=False), wanted, atol=1e-5 * size)


def test_batch_norm_momentum_is_set(application, model):
    if application[0].name == "convnext_tiny":
        pytest.skip("ConvNeXt has no BatchNorm")
    norms = [x for x in all_layers(model) if isinstance(x, keras.layers.BatchNormalization)]
    assert len(norms) > 30
    assert {norm.momentum for norm in norms} == {0.8}


@pytest.mark.parametrize("content", [None, b"", b"\x89HDF\r\n\x1a\nnothing", "another network"])
def test_unreadable_weights_leave_the_model_unchanged(content, application, model, tmp_path):
    path = tmp_path / "other.weights.h5"
    if content == "another network":
        SmallCNN(width=2, hidden=8).build(SHAPE, 7).save_weights(path)
    elif content is not None:
        path.write_bytes(content)
    ours = dataclasses.replace(application[0], weights=str(path))
    before = model.get_weights()
    with pytest.raises(InvalidSettings) as caught:
        ours.initialize(model)
    (problem,) = caught.value.problems
    assert problem.startswith(f"weights: got '{path}', which can't be read as the weights of ")
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_resnet50_has_the_size_that_keras_documents():
    """23,564,800 without the top, and 2048 x 10 + 10 for the classes."""
    model = ResNet50().build((224, 224, 3), 10)
    assert model.count_params() == 23_564_800 + 20_490
