"""Classifiers on a server."""

import numpy as np

from keras_srt.core.images import allowed_formats
from keras_srt.predict.backends import ServedClassifier
from keras_srt.serving.client.predictions import Predictions, RequestRefused


class FakeClient:
    """Refuses batches with `poison`; `?` is invalid."""

    name, version = "m", "1"

    def __init__(self):
        self.sizes = []

    def predict(self, images):
        self.sizes.append(len(images))
        if b"poison" in images:
            raise RequestRefused("HTTP 400 (corrupt)")
        valid = np.array([image != b"?" for image in images])
        return Predictions(np.float32([[0.25, 0.75]] * len(images)), valid, ("a", "b"))


def test_refused_image_does_not_affect_its_batch():
    client = FakeClient()
    served = ServedClassifier(client, "host:1")
    predictions = served.classify([b"x", b"poison", b"?", b"y"])
    assert [each.error for each in predictions] == [
        "",
        "the server refuses it (HTTP 400 (corrupt))",
        f"is in no supported format (it begins with b'?'); allowed: {allowed_formats()}",
        "",
    ]
    assert client.sizes == [4, 1, 1, 1, 1]
    assert predictions[3].top(2) == [1, 0]
    assert served.title == "m, version 1 (host:1)"
