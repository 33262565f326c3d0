"""The CIFAR-10 models in saved_models/ load, and are as accurate as documented."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_srt.core.model_loading import load_savedmodel
from keras_srt.data import CIFAR10
from keras_srt.predict.backends import open_model

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("cifar_pixel-record", "cifar_spatial-record", "cifar_composite-record")
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_classifies_an_image_file(name):
    data = io.BytesIO()
    Image.new("RGB", (40, 30), "green").save(data, "png")
    (prediction,) = open_model(ROOT / "saved_models" / name).classify([data.getvalue()])
    assert list(prediction.classes) == CLASSES
    assert sum(prediction.probabilities) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_test_images_are_classified_as_reported(name, shared_data_dir):
    report = json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text())
    images, labels = CIFAR10().open(shared_data_dir).load_test()
    count = report["clean"]["n"]
    logits = load_savedmodel(ROOT / "saved_models" / name / "1").signatures["logits"]
    classes = [
        np.argmax(logits(images=np.float32(part / 255.0))["logits"], axis=-1)
        for part in np.array_split(images[:count], 10)
    ]
    accuracy = np.mean(np.concatenate(classes) == labels[:count])
    assert accuracy == pytest.approx(report["clean"]["accuracy"], abs=2 / count)
