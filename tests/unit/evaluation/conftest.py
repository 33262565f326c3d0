"""A random classifier that is correct on two thirds of its images."""

import numpy as np
import pytest
import tensorflow as tf

from keras_srt.attacks import batch_progress


@pytest.fixture
def pictures():
    """30 smooth images of 8×8 pixels and two channels."""
    coarse = np.random.default_rng(3).random((30, 3, 3, 2))
    return tf.image.resize(coarse, (8, 8)).numpy().astype(np.float32)


@pytest.fixture
def some_right(make_classifier, pictures):
    """A random classifier, and labels of which it answers two thirds right."""
    classifier = make_classifier(batch_norm=True)
    labels = np.int32(np.argmax(classifier(pictures, training=False), axis=1))
    labels[::3] = (labels[::3] + 1) % 3
    return classifier, labels


@pytest.fixture(autouse=True)
def whole_parts(monkeypatch):
    """Report the progress of whole parts only, however slow the machine is."""
    monkeypatch.setattr(batch_progress, "_SECONDS", float("inf"))
