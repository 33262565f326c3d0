"""Models of the registry and of `keras.applications` pass the checks of model files."""

import numpy as np
import pytest

from keras_srt.core.model_loading import check_savedmodel, load_keras_file
from keras_srt.core.model_safety import check_keras_file, check_tflite_file
from keras_srt.core.tensorflow import keras
from keras_srt.exporters.export import export_classifier
from keras_srt.models import MODELS

APPLICATIONS = (
    "ConvNeXtTiny",
    "DenseNet121",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "InceptionV3",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "NASNetMobile",
    "RegNetX002",
    "ResNet50",
    "ResNet50V2",
    "ResNetRS50",
    "VGG16",
    "Xception",
)


@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications(name, tmp_path):
    model = getattr(keras.applications, name)(weights=None, classes=10)
    model.save(tmp_path / "model.keras")
    check_keras_file(tmp_path / "model.keras")


@pytest.mark.parametrize("name", ["EfficientNetB0", "MobileNet", "MobileNetV3Small", "ResNet50"])
def test_loaded_applications(name, tmp_path):
    model = getattr(keras.applications, name)(weights=None, classes=10)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.save(tmp_path / "model.keras")
    model.export(str(tmp_path / "model"))
    check_savedmodel(tmp_path / "model")
    assert load_keras_file(tmp_path / "model.keras").count_params() == model.count_params()


@pytest.mark.parametrize("name", MODELS)
def test_models_of_the_registry(name, tmp_path):
    model = MODELS.build({"name": name}).build((32, 32, 3), 4)
    model.save(tmp_path / "model.keras")
    load_keras_file(tmp_path / "model.keras")
    samples = np.random.default_rng(0).random((4, 32, 32, 3), np.float32)
    exported = export_classifier(model, list("abcd"), tmp_path / "exported", samples)
    check_savedmodel(exported.savedmodel)
    for path in exported.tflite.glob("*.tflite"):
        check_tflite_file(path)
