"""Classification with each interpreter."""

import numpy as np
import pytest
from device_models import LABELS, expected_of

from keras_srt.core.images import BadImage, decode_image
from keras_srt.device import Classifier
from keras_srt.device.__main__ import main
from keras_srt.device.classify import INTERPRETERS


@pytest.mark.parametrize("name", INTERPRETERS)
@pytest.mark.parametrize("num_threads", [1, 2])
def test_every_interpreter_agrees_with_the_model(classifier, model, pictures, name, num_threads):
    pytest.importorskip(INTERPRETERS[name][0])
    device = Classifier(model, num_threads, name)
    assert device.shape == (8, 8, 3)
    assert device.labels == LABELS
    for path in pictures:
        got = device.classify(decode_image(path.read_bytes(), device.shape))
        assert (got.dtype, got.shape) == (np.float32, (3,))
        np.testing.assert_allclose(got, expected_of(classifier, path), atol=1e-5)


def test_result_is_not_overwritten_by_the_next_call(model):
    device = Classifier(model)
    dark, bright = np.zeros((8, 8, 3), np.float32), np.ones((8, 8, 3), np.float32)
    first = device.classify(dark)
    kept = first.copy()
    assert np.abs(device.classify(bright) - kept).max() > 1e-3
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((8, 8)), r"shape \(8, 8\); allowed: \(8, 8, 3\)"),
        (np.zeros((1, 8, 8, 3)), "shape"),
        (np.zeros((9, 8, 3)), "shape"),
        (np.zeros((0, 8, 3)), "shape"),
        (np.full((8, 8, 3), np.nan), "nan"),
        (np.where(np.arange(192) == 100, np.nan, 0.5).reshape(8, 8, 3), "nan"),
        (np.full((8, 8, 3), np.inf), "inf"),
        (np.full((8, 8, 3), 1.01), "1.01"),
        (np.full((8, 8, 3), -0.01), "-0.01"),
        (np.full((8, 8, 3), 255.0), "255"),
    ],
)
def test_bad_image_is_rejected_and_the_classifier_stays_usable(model, image, words):
    device = Classifier(model)
    with pytest.raises(BadImage, match=words):
        device.classify(image)
    assert device.classify(np.zeros((8, 8, 3))).sum() == pytest.approx(1, abs=1e-5)


def test_missing_interpreter_error_names_a_package(model, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["x.png", "--model", str(model)]) == 2
    assert "pip install ai-edge-litert" in capsys.readouterr().err
