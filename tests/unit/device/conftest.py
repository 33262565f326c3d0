"""A classifier, its .tflite file, images, and a folder to train on."""

import numpy as np
import pytest
from device_models import NAMES, make_classifier, write_pictures
from PIL import Image
from trainable_models import NAMES as TRAINING_NAMES
from trainable_models import tiny_file

from keras_srt.device.model_file import add_labels


@pytest.fixture(scope="session")
def classifier():
    return make_classifier()


@pytest.fixture(scope="session")
def model(classifier, tmp_path_factory):
    """A float32 file; tests read it and change nothing."""
    from keras_srt.exporters.tflite import _convert

    path = tmp_path_factory.mktemp("tflite") / "model_float32.tflite"
    path.write_bytes(_convert(classifier, "float32", np.zeros((0, 8, 8, 3))))
    add_labels(path, NAMES)
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Three PNG files of other sizes than the model's."""
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """`model_train.tflite`, `labeled/` with 2 images a class, `unlabeled/` with 5."""
    folder = tmp_path_factory.mktemp("device")
    (folder / "model_train.tflite").write_bytes(tiny_file())
    generator = np.random.default_rng(0)
    files = [f"labeled/{name}/{i}.png" for name in TRAINING_NAMES for i in range(2)]
    for file in [*files, *(f"unlabeled/deep/{i}.jpg" for i in range(5))]:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.uint8(generator.integers(0, 256, (9, 10)))).save(folder / file)
    return folder
